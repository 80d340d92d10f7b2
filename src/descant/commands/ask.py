"""`descant ask`: questions about sound files, answered for the track or window by window."""

import argparse
from typing import TYPE_CHECKING

from descant.answering.model_folder import PRECISIONS
from descant.program import (
    MOST_BEAMS,
    count,
    hear,
    loading_to_stay,
    question,
    say,
    show,
    show_json,
    silence_transformers,
    use_all_cores,
)

if TYPE_CHECKING:
    from descant.answering.answers import Answer

HEARD = 12  # windows of a track, at most

EXAMPLES = """\
examples:
  descant ask song.mp3 -q "Which instruments play?" -q "Who sings?"
  descant ask outputs/mi_short_long *.wav -q "What is the mood?" -q "How fast is it?" --json > answers.jsonl

MODEL, a folder or an id on the Hub, is the model in the box where it is left out: a sound file is no model.
A question about what the model was trained to decide (genre, mood, tempo, who sings, which instruments play) is
decided, in whatever words it is asked, with a probability; an answer under the fitted threshold is "not sure". Others
are answered in free words; captions and long answers leave out what the model is not sure of, where that was fitted
(--everything keeps it). A file is heard in windows of 10 seconds, of a long one in 12 spread
evenly, and the answer is the one that most windows give; --windows gives one for each window of the whole file. A file
that cannot be read is named on stderr, the others are answered.
Exit status: 0 all answered, 1 some files skipped, 2 usage, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "ask",
        help="ask a model about sound files",
        description="Ask a model questions about sound files of any length.",
        epilog=EXAMPLES,
        usage="descant ask [-h] [-q TEXT] [--windows] [--hear N] [--everything] [--json] [--num_beams N] "
        "[--precision P] [--batch_size N] [MODEL] AUDIO [AUDIO ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="+",
        help="sound files: wav, flac, ogg, opus, mp3, m4a, webm, aiff and others; a model may stand before them",
    )  # fmt: skip
    parser.add_argument(
        "-q", "--question", metavar="TEXT", action="append", dest="questions", type=question,
        help="a question; may be given several times (without: a caption)",
    )  # fmt: skip
    parser.add_argument(
        "--windows", action="store_true", help="answer about each window of the whole file, not about the track"
    )
    parser.add_argument(
        "--hear", metavar="N", type=hear, default=HEARD,
        help="windows of a track that are heard at most, or all (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--everything", action="store_true", help="in long answers, say what is not sure as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object an answer")
    parser.add_argument(
        "--num_beams", metavar="N", type=count(1, MOST_BEAMS), help="search width (default: the model's own)"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32",
        help="bf16 and int8 are faster where the processor has them, and change some answers (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--batch_size", metavar="N", type=count(1), default=32, help="questions at a time (default: %(default)s)"
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Answer, and return the exit status."""
    from descant.answering.model_folder import find_model, split_model

    if args.windows and args.hear != HEARD:
        raise ValueError("--hear does nothing beside --windows, which hears the whole file: leave one of them out")
    name, sounds = split_model(args.audio)
    find_model(name)  # before the seconds that importing torch takes
    with loading_to_stay():
        from descant.answering.answers import pool_answers
        from descant.answering.listener import Asking, Listener, show_progress
        from descant.answering.questions import TypedQuestions
        from descant.answering.stream import Recording, as_track, in_order
        from descant.data.audio import stream_windows
        from descant.data.sources import list_sounds

        silence_transformers()
        use_all_cores()
        settings = {"num_beams": args.num_beams} if args.num_beams else {}
        listener = Listener.load(name, args.precision, everything=args.everything, **settings)
    recordings = list(map(Recording.of, list_sounds(sounds)))
    questions = args.questions or [None]
    typed = None if args.windows else TypedQuestions(listener, questions)
    read = stream_windows if args.windows else as_track(stream_windows, args.hear)
    asking = Asking(listener, recordings, questions, batch_size=args.batch_size, read_windows=read, typed=typed)
    answers = in_order(show_progress(asking))
    skipped = 0
    for answer in answers if args.windows else pool_answers(answers, questions):
        _show(answer, args.json)
        skipped += answer.error is not None
    return 1 if skipped else 0


def _show(answer: "Answer", as_json: bool) -> None:
    if answer.error is not None:
        say(f"descant ask: {answer.describe_error()}")
    if as_json:
        show_json(answer.to_json())
    elif answer.error is None:
        show(answer.to_text())

"""`descant decide`: typed questions about sound files, answered with probabilities for the whole track."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descant.program import (
    escape,
    hear,
    loading_to_stay,
    name_error,
    question,
    say,
    show,
    show_json,
    silence_transformers,
    use_all_cores,
)

if TYPE_CHECKING:
    from descant.answering.answers import Decider

EXAMPLES = """\
examples:
  descant decide song.mp3 --choice "genre=rock,classical,folk" --yesno "Are there drums?"
  descant decide *.flac --score "tempo=slow,medium,fast" --json > decisions.jsonl
  descant decide --model MODEL song.mp3 --questions questions.yaml
  descant decide song.mp3 --yesno "Are there drums?" --explain

The words before = name the question, those behind it are its options. A file of questions (YAML or JSON) maps names
to System One's questions: type (choice, score, noul), instructions, criteria. An answer under the fitted threshold is
"not sure", with the best guess in brackets. Probabilities are shares among the options that are given: give all that
can be.
Exit status: 0 all decided, 1 some files skipped, 2 usage, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "decide",
        help="decide typed questions about sound files, with probabilities",
        description="Decide typed questions about whole tracks: choices, levels, yes or no, each with a probability.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", metavar="AUDIO", nargs="+", help="sound files, folders, lists …")
    parser.add_argument(
        "--model", metavar="MODEL", help="a model folder, or a model's id on the Hub (default: the model in the box)"
    )
    parser.add_argument(
        "--choice", metavar="NAME=A,B,…", action="append", default=[], type=read_choice, help="one of several options"
    )
    parser.add_argument(
        "--score", metavar="NAME=LOW,HIGH", action="append", default=[], type=read_score, help="a level, lowest first"
    )
    parser.add_argument(
        "--yesno", metavar="QUESTION", action="append", default=[], type=read_yesno, help="a question of yes or no"
    )
    parser.add_argument("--questions", metavar="FILE", type=Path, help="a YAML or JSON file of questions")
    parser.add_argument(
        "--hear", metavar="N", default=12, type=hear,
        help="windows of a track that are heard at most, spread evenly, or all (default: 12)",
    )  # fmt: skip
    parser.add_argument("--always", action="store_true", help='give the best guess in place of "not sure"')
    parser.add_argument(
        "--explain", action="store_true",
        help="say which seconds each answer rests on; each heard window is then heard about ten times more, at most "
        "three a question",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object a track")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Decide, and return the exit status; raises ValueError for what cannot be asked."""
    from descant.answering.model_folder import choose_model, find_model
    from descant.data.sources import list_sounds

    questions = gather_questions(args)
    args.model = choose_model(args.model)
    find_model(args.model)  # before the seconds that importing torch takes
    sounds = list_sounds(args.audio)
    with loading_to_stay():
        from descant.answering.answers import Decider
        from descant.answering.listener import Listener

        silence_transformers()
        use_all_cores()
        listener = Listener.load(args.model)
    decider = Decider(listener.model, listener.processor, questions, args.hear)
    return 1 if sum(not _show(decider, audio, args) for audio in sounds) else 0


def gather_questions(args: argparse.Namespace) -> dict[str, Any]:
    """Join the questions of the command line and of a file; raises ValueError where there are none, or one twice."""
    pairs = [*args.choice, *args.score, *args.yesno]
    if args.questions is not None:
        pairs += read_questions(args.questions).items()
    if not pairs:
        raise ValueError("no question was given: use --choice, --score, --yesno or --questions")
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the question {twice!r} was given twice")
    return dict(pairs)


def read_questions(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file of questions; raises ValueError with its name."""
    import yaml

    from descant.files import read_regular

    try:
        questions = yaml.safe_load(read_regular(path).decode("utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}: cannot be read as YAML or JSON: line {line}: {error.problem}") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML or JSON: {str(error).splitlines()[0]}") from error
    if not isinstance(questions, dict) or not all(isinstance(name, str) for name in questions):
        raise ValueError(f"{path}: is no mapping of names to questions")
    try:
        json.dumps(questions, ensure_ascii=False, default=str).encode()
    except (UnicodeEncodeError, TypeError) as error:
        raise ValueError(f"{path}: holds what is no text: {error}") from error
    return questions


def read_choice(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME=A,B` as a choice; the options are its keys."""
    name, options = _split(text)
    return name, {"type": "choice", "instructions": name, "criteria": dict.fromkeys(options)}


def read_score(text: str) -> tuple[str, dict[str, Any]]:
    """Read `NAME=LOW,HIGH` as a score; the options are its levels."""
    name, options = _split(text)
    return name, {"type": "score", "instructions": name, "criteria": options}


def read_yesno(text: str) -> tuple[str, dict[str, Any]]:
    """Read a question of yes or no, which is its own name."""
    name = _one_line(text)
    return name, {"type": "noul", "instructions": name}


def _one_line(text: str) -> str:
    return " ".join(question(text).split())


def _split(text: str) -> tuple[str, list[str]]:
    name, _, rest = _one_line(text).partition("=")
    options = [option.strip() for option in rest.split(",") if option.strip()]
    if not name.strip() or len(options) < 2 or len(set(options)) < len(options):
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=OPTION,OPTION with at least two different options")
    return name.strip(), options


def _show(decider: "Decider", audio: str, args: argparse.Namespace) -> bool:
    """Decide and print one file; False where it cannot be heard, which is said on stderr."""
    from descant.answering.answers import format_decisions
    from descant.answering.evidence import explain_track, format_evidence
    from descant.data.audio import AudioError
    from descant.data.storage import name_source

    try:
        decisions, evidence = explain_track(decider, audio) if args.explain else (decider.decide(audio), {})
    except AudioError as error:
        say(f"descant decide: {error}")
        return False
    except Exception as error:  # whatever one file raises is that file's problem
        say(f"descant decide: {name_source(audio)}: {name_error(error)}")
        return False
    if args.json:
        shown = {"evidence": {name: one.to_record() for name, one in evidence.items()}} if args.explain else {}
        show_json(json.dumps(decisions.to_record(args.model) | shown, ensure_ascii=False))
        return True
    lines = [decisions.audio, *format_decisions(decisions.answers, args.always)]
    if args.explain:
        lines += ["  evidence", *format_evidence(evidence)]
    show("\n".join(map(escape, lines)))
    return True

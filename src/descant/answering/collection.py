"""The job behind recipes/captions_from_qa.py: questions about every window of recordings, in any number of processes,
into answers and captions.
"""

import argparse
import csv
import io
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import transformers
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from tqdm import tqdm

from descant.answering.answer_log import read_log, write_log, write_part
from descant.answering.answers import Answer
from descant.answering.listener import Asking, Listener
from descant.answering.model_folder import PRECISIONS, find_model, fingerprint_model
from descant.answering.stream import Recording
from descant.data.audio import format_stamp
from descant.data.sources import list_sound_files, list_sounds, names_sound
from descant.data.storage import name_source
from descant.files import Record, escape_formula, write_whole
from descant.program import (
    MOST_BEAMS,
    ArgumentParser,
    count,
    question,
    require_writable,
    say,
    share,
    silence_transformers,
    source,
    use_all_cores,
)

log = logging.getLogger(__name__)

UNSURE = ("I am not sure", "I cannot say")  # as the model in the box begins such answers
LONGEST_WAIT = timedelta(days=30)  # for the other processes, whose recordings may be longer


def order_records(records: Iterable[Record], audio: Sequence[str], questions: Sequence[str | None]) -> list[Record]:
    """Put records in the order of recordings, windows and questions; what is not in `audio` any more comes last."""
    files = {name: index for index, name in enumerate(audio)}
    turns = {question: index for index, question in enumerate(questions)}

    def key(record: Record) -> tuple[int, str, bool, float, int]:
        index, name, start_s = files.get(record["audio"], len(files)), record["audio"], record["start_s"]
        return index, name, start_s is None, start_s or 0.0, turns.get(record["question"], len(turns))

    return sorted(records, key=key)


def join_answers(records: Iterable[Record]) -> str:
    """Return `[0:00–0:10] answer answer [0:10–0:20] …` of one recording's records, which are in order.

    What says no more than that the model is not sure is left out where others say something.
    """
    parts = []
    for (start_s, end_s), window in groupby(records, key=itemgetter("start_s", "end_s")):
        said = [text for text in map(itemgetter("prediction"), window) if not text.startswith(UNSURE)]
        parts += [f"[{format_stamp(start_s, end_s)}]", *said] if said else []
    return " ".join(" ".join(parts).split()) or f"{UNSURE[0]}."


def format_captions(records: Iterable[Record]) -> str:
    """Return a CSV with the reference's columns, audio_path and caption; recordings without answers have no row.

    A path that a spreadsheet would take for a formula (`=`, `+`, `-`, `@` at its beginning) begins with `./`.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["audio_path", "caption"])
    answered = (record for record in records if record["error"] is None)
    for audio, group in groupby(answered, key=itemgetter("audio")):
        rows.writerow([escape_formula(audio), join_answers(group)])
    return text.getvalue()


def find_recordings(source: str | Path) -> list[Recording]:
    """List all sound files and `.npy` waveforms in a folder and below, by name; raise ValueError where there are none.

    Their answers are kept under the path relative to the folder, so that the folder may move. All else, and a folder
    without such files, is listed as `list_sounds` does.
    """
    folder = Path(source)
    if folder.is_dir():
        listed = list_sound_files(folder, also=(".npy",))
        if listed.files:
            listed.warn()
            return [Recording(path, path.relative_to(folder).as_posix()) for path in listed.files]
    elif not names_sound(str(source)):
        raise ValueError(f"{source}: no such folder of recordings")
    sounds = {name_source(sound): sound for sound in list_sounds([str(source)])}
    return [Recording(sound, name) for name, sound in sounds.items()]


def caption_collection(questions: Sequence[str], num_beams: int, argv: Sequence[str] | None = None) -> int:
    """Answer `questions` about every window of a folder's recordings; return the exit status.

    The command line over the given settings; a second run after any kill answers only what is missing.
    """
    args = parse_arguments(questions, num_beams, argv)
    silence_transformers()
    require_writable(args.output.parent)
    return run(args)


def parse_arguments(questions: Sequence[str], num_beams: int, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line over the recipe's own questions and search width."""
    parser = ArgumentParser(prog="captions_from_qa.py", description="Questions about all windows.")
    parser.add_argument("--checkpoint", required=True, help="model folder, or a model's id on the Hub")
    parser.add_argument("--audio", required=True, type=source, help="folder, pattern, list, address or shard of sound")
    parser.add_argument(
        "--output", required=True, type=Path,
        help="FILE.csv: captions (audio_path, caption), beside the answers in FILE.jsonl; FILE.jsonl: answers only",
    )  # fmt: skip
    parser.add_argument(
        "--questions", nargs="+", type=question, default=list(questions), help="in place of the recipe's own"
    )
    parser.add_argument("--num_beams", type=count(1, MOST_BEAMS), help=f"search width (default: {num_beams})")
    parser.add_argument("--top_p", type=share, help="nucleus sampling in place of beams, for example 0.9")
    parser.add_argument("--seed", type=count(0), help="seed of the sampling (default: 0)")
    parser.add_argument("--max_length", type=count(1), help="longest answer in tokens (default: the model's own)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="lower ones change some answers")
    parser.add_argument("--batch_size", type=count(1), default=32, help="questions at a time (default: %(default)s)")
    args = parser.parse_args(argv)
    args.questions = list(dict.fromkeys(args.questions))
    if args.top_p is None and args.seed is not None:
        parser.error("--seed does nothing without --top_p: leave it out")
    if args.top_p is not None and args.num_beams is not None:
        parser.error("--num_beams does nothing with --top_p: leave it out")
    args.num_beams, args.seed = args.num_beams or num_beams, args.seed or 0
    if args.output.suffix not in (".csv", ".jsonl"):
        parser.error(f"--output {args.output}: ends neither in .csv nor in .jsonl")
    for path in (args.output, args.output.with_suffix(".jsonl")):
        if path.exists() and not path.is_file():
            parser.error(f"--output: {path} is no file")
    return args


def run(args: argparse.Namespace) -> int:
    """Answer this process's share, then join the shares of all; return the exit status."""
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])
    logging.disable(logging.NOTSET if accelerator.is_main_process else logging.WARNING)
    use_all_cores()
    recordings = find_recordings(args.audio)
    with accelerator.main_process_first():
        folder = find_model(args.checkpoint)  # from the Hub once a machine
    settings = generation_settings(args) | {"weights": fingerprint_model(folder)}
    if args.top_p is not None:
        transformers.set_seed(args.seed + accelerator.process_index)
    listener = Listener.load(args.checkpoint, args.precision, accelerator.device, **settings)
    answers = args.output.with_suffix(".jsonl")
    known = read_known(answers, listener, args.questions)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write_log(answers, known)
    accelerator.wait_for_everyone()
    with accelerator.split_between_processes(recordings) as mine:
        skipped, given = answer_share(listener, mine, known, args, accelerator.process_index)
    skipped = sum(gather_object([skipped]))
    given = set().union(*gather_object([given]))
    if accelerator.is_main_process:
        publish(answers, args, recordings, given, len(known))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return 1 if skipped else 0


def generation_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of `generate`, with the seed where it decides the answers."""
    settings: dict[str, Any] = {"max_length": args.max_length} if args.max_length else {}
    if args.top_p is None:
        return {**settings, "num_beams": args.num_beams}
    # Of the nucleus alone: without top_k=0, transformers would cut it off at its 50 likeliest tokens.
    return {**settings, "num_beams": 1, "do_sample": True, "top_p": args.top_p, "top_k": 0, "seed": args.seed}


def read_known(path: Path, listener: Listener, questions: Sequence[str]) -> list[Record]:
    """Read the answers of earlier runs; what failed is tried again. Raises ValueError for those of another job."""
    records = [record for record in read_log(path) if record["error"] is None]
    for record in records:
        if record["model"] != listener.name or record["generation"] != listener.generation:
            raise ValueError(f"{path}: holds answers of another model or other settings; give another --output")
        if record["question"] not in questions:
            raise ValueError(f"{path}: holds answers to {record['question']!r}; give another --output")
    return records


def answer_share(
    listener: Listener, recordings: Sequence[Recording], known: Sequence[Record], args: argparse.Namespace,
    process: int,
) -> tuple[int, set[str]]:  # fmt: skip
    """Write the answers of one process as they come; return how many problems there were, and the ids of all."""
    skipped = []

    def show(answer: Answer) -> None:
        if answer.error is not None:
            skipped.append(answer.audio)
            say(f"captions_from_qa: {answer.describe_error()}")

    files = tqdm(recordings, desc="listening", unit=" files", disable=True if process else None)
    ids = frozenset(record["id"] for record in known)
    asking = Asking(listener, files, args.questions, batch_size=args.batch_size, known=ids)
    write_part(args.output.with_suffix(".jsonl"), process, asking, show)
    return len(skipped), asking.given


def publish(
    path: Path, args: argparse.Namespace, recordings: Sequence[Recording], given: Collection[str], known: int
) -> None:
    """Write all answers in order, and the captions beside them; raise BrokeOff where some that were given are gone."""
    records = order_records(read_log(path, given), [recording.audio for recording in recordings], args.questions)
    if args.output.suffix == ".csv":
        write_whole(args.output, format_captions(records))
    write_log(path, records)
    answered = sum(record["error"] is None for record in records)
    log.info(
        "%s: %d files, %d answers (%d new), %d skipped",
        args.output, len(recordings), answered, answered - known, len(records) - answered,
    )  # fmt: skip

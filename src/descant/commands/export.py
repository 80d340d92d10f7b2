"""`descant export`: a model as graphs that other runtimes and languages run."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import require_writable, say, show, silence_transformers, source

if TYPE_CHECKING:
    from descant.data.audio import Window

EXAMPLES = """\
examples:
  descant export --format onnx --output exported
  descant export MODEL --format onnx --output exported --questions questions.yaml
  descant export --format onnx --output exported --check music/

MODEL is a model folder, or a model's id on the Hub (default: the model in the box). The folder then holds
front_end.onnx (waveform to features), encoder.onnx (features to audio embeddings, and musicnn's tags), decisions.onnx
(audio embeddings to scores of the options of typed questions: those of a description, or of --questions), and
descant.json, which says how they are used. Captions and free questions, which are searched for, are not exported.
Exit status: 0 exported, 1 --check left a sound out or differs by more than 1e-4 (states: 1e-3), 2 usage, 130
interrupted.
"""
# What each graph may differ by that is given what the model computed; states are the largest numbers.
TOLERANCES = {"encoder": 1e-4, "encoder's states": 1e-3, "encoder's tags": 1e-4, "decisions": 1e-4}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as graphs for other runtimes and languages",
        description="Write a model's audio encoder and typed decisions as graphs that other runtimes run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model (default: the model in the box)")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="of the graphs (default: %(default)s)")
    parser.add_argument("--output", metavar="FOLDER", type=source, required=True, help="the folder to write")
    parser.add_argument("--questions", metavar="FILE", type=Path, help="a YAML or JSON file of typed questions")
    parser.add_argument(
        "--check", metavar="SOUND", nargs="+", default=[],
        help="sound files or folders, over which the graphs are compared with the model",
    )  # fmt: skip
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Export, and return the exit status; raises ValueError for what cannot be exported."""
    from descant.answering.model_folder import choose_model, find_model, load_model
    from descant.commands.decide import read_questions
    from descant.data.sources import list_sounds

    questions = None if args.questions is None else read_questions(args.questions)
    name, output = choose_model(args.model), Path(args.output)
    folder = find_model(name)
    sounds = list_sounds(args.check) if args.check else []
    require_writable(output)
    from descant.doors.export import Export, compare, require_exporter

    require_exporter()
    silence_transformers()
    model, processor = load_model(folder)
    export = Export(model, processor, Path(name).name, questions)
    export.save(output)
    show(f"{output}: {', '.join(f'{graph}.onnx' for graph in export.graphs)}, descant.json")
    if not export.planned:
        say("descant export: the model has no decision.json, so no typed questions were exported")
    if not sounds:
        return 0
    skipped: list[str] = []
    extractor = processor.feature_extractor
    windows = read_windows(sounds, extractor.sampling_rate, extractor.window_s, skipped)
    count, differences = compare(export, output, windows)
    show(f"largest differences from the model over {count} windows:")
    for what, difference in differences.items():
        show(f"  {what:<22} {difference:.1e}")
    return 1 if skipped or not are_equal(differences) else 0


def are_equal(differences: Mapping[str, float]) -> bool:
    """Return whether all graphs behind the front end give what the model gives; NaN is no such thing."""
    exact = {what: difference for what, difference in differences.items() if what in TOLERANCES}
    return bool(exact) and all(difference <= TOLERANCES[what] for what, difference in exact.items())


def read_windows(sounds: list[str], sampling_rate: int, window_s: float, skipped: list[str]) -> "Iterator[Window]":
    """Yield the windows of sound files in which something can be heard; name those that cannot be read."""
    from descant.data.audio import AudioError, hear_windows

    for sound in sounds:
        try:
            yield from hear_windows(sound, None, sampling_rate, window_s).windows
        except AudioError as error:
            skipped.append(sound)
            say(f"descant export: {error}")

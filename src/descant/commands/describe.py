"""`descant describe`: what is heard in whole tracks, as a few lines or as JSON of a published schema."""

import argparse
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import (
    escape,
    hear,
    loading_to_stay,
    name_error,
    require_writable,
    say,
    show,
    show_json,
    silence_transformers,
    use_all_cores,
)

if TYPE_CHECKING:
    from descant.answering.description import Describer
    from descant.collections.engines import Describe, OneProcess

EXAMPLES = """\
examples:
  descant describe song.mp3
  descant describe --model MODEL music/ --json > descriptions.jsonl
  descant describe --model MODEL music/ --output descriptions.jsonl --sidecars caption,json --style short
  descant describe music/ --output descriptions.parquet --engine ray
  descant describe --schema

With --output a folder (or a list: .txt, .m3u) is described into a file, .csv and .parquet with the .jsonl beside it;
the same command goes on after a kill, and what failed stands in FILE.failed.jsonl. --sidecars writes song.caption.txt
and song.json beside each song.
Genre, mood, energy, tempo, metre, voice and instruments are decided with probabilities; "not sure" is said where they
lie under the fitted threshold. BPM, key, loudness and silence are measured where descant[measure] is installed.
Exit status: 0 all described, 1 some files skipped, 2 usage, 130 interrupted.
"""
STYLE = "long"
GOES_ON = "with --output, the same command goes on from here"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "describe",
        help="describe whole tracks: caption, genre, mood, instruments, tempo",
        description="Describe whole tracks, with a probability for what is heard.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", metavar="AUDIO", nargs="*", help="sound files, folders, lists …")
    parser.add_argument(
        "--model", metavar="MODEL", help="a model folder, or a model's id on the Hub (default: the model in the box)"
    )
    parser.add_argument(
        "--hear", metavar="N", type=hear, default=12,
        help="windows of a track that are heard at most, or all (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--always", action="store_true", help='give the best guess in place of "not sure"')
    parser.add_argument("--json", action="store_true", help="print one JSON object a track")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of a description")
    folder = parser.add_argument_group("folders")
    folder.add_argument("--output", metavar="FILE", type=output, help="write descriptions to .jsonl, .csv or .parquet")
    folder.add_argument(
        "--sidecars", metavar="KINDS", type=sidecars, default=frozenset(),
        help="write beside each song: caption, json or caption,json",
    )  # fmt: skip
    folder.add_argument("--style", choices=("short", "long", "tags"), default=STYLE, help="of captions in files")
    folder.add_argument("--overwrite", action="store_true", help="write sidecars over files of others too")
    folder.add_argument("--states", action="store_true", help="add the model's mean audio state, for descant search")
    folder.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine, or the workers of a Ray cluster"
    )
    folder.add_argument(
        "--ray_address", metavar="HOST:PORT", help="of the cluster (default: RAY_ADDRESS, else one on this machine)"
    )
    parser.set_defaults(func=run, goes_on=GOES_ON)


def output(text: str) -> Path:
    """Read the option `--output`."""
    path = Path(text)
    if path.suffix not in (".jsonl", ".csv", ".parquet") or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no file that ends in .jsonl, .csv or .parquet")
    return path


def sidecars(text: str) -> frozenset[str]:
    """Read the option `--sidecars`."""
    kinds = frozenset(kind.strip() for kind in text.split(","))
    if not kinds <= {"caption", "json"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither caption nor json nor both")
    return kinds


def run(args: argparse.Namespace) -> int:
    """Describe, and return the exit status; raises ValueError for what cannot be described."""
    if args.schema:
        schema = Path(__file__).parents[1] / "answering" / "description.schema.json"
        show_json(schema.read_text(encoding="utf-8").rstrip())
        return 0
    if not args.audio:
        raise ValueError("give sound files or folders")
    from descant.answering.model_folder import choose_model, find_model
    from descant.data.sources import list_sounds

    refuse_idle(args)
    args.model = choose_model(args.model)
    model = find_model(args.model)  # before the seconds that importing torch takes
    if args.output:
        return describe_folder(args, model)
    sounds = list_sounds(args.audio)
    describer = load_describer(args)
    return 1 if sum(not _show(describer, sound, args) for sound in sounds) else 0


def refuse_idle(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that would do nothing beside the others."""
    if args.output and args.always:
        raise ValueError("--always changes what is printed, and --output prints no descriptions: leave it out")
    if args.ray_address and args.engine != "ray":
        raise ValueError("--ray_address does nothing without --engine ray: leave it out")
    if args.output is None and args.sidecars:
        raise ValueError("--sidecars needs --output, which remembers what was written")
    if args.output and args.overwrite and not args.sidecars:
        raise ValueError("--overwrite does nothing without --sidecars: leave it out")
    given = {"engine ray": args.engine == "ray", "style": args.style != STYLE, "overwrite": args.overwrite}
    for name in (name for name, is_given in given.items() if is_given and args.output is None):
        raise ValueError(f"--{name} needs --output: it is about what is written")


def load_describer(args: argparse.Namespace, device: str | None = None) -> "Describer":
    """Load the model; device: by default the GPU where there is one."""
    with loading_to_stay():
        from descant.answering.description import Describer
        from descant.answering.listener import Listener

        silence_transformers()
        use_all_cores()
        return Describer(Listener.load(args.model, device=device), args.hear, args.states)


def describe_folder(args: argparse.Namespace, model: Path) -> int:
    """Describe songs into files, and say what came of it; return the exit status."""
    from descant.answering.model_folder import fingerprint_model
    from descant.collections.describing import Job, describe_songs
    from descant.data.sources import list_sounds
    from descant.data.storage import is_local, name_source

    engine, load = choose_engine(args)
    sources = {name_source(sound): sound for sound in list_sounds(args.audio)}
    far = next((name for name, sound in sources.items() if not is_local(sound)), None)
    if far and args.sidecars:
        raise ValueError(f"--sidecars writes files beside songs, and {far} has no folder on this machine")
    require_writable(args.output.parent)
    settings = {"weights": fingerprint_model(model), "hear": args.hear, "states": args.states}
    job = Job(args.output, settings, args.style, args.sidecars, args.overwrite)
    addresses = {name: sound for name, sound in sources.items() if name != sound}
    load_named = partial(describe_named, load, addresses, args, settings["weights"])
    outcome = describe_songs(list(sources), load_named, job, engine)
    if engine.rank > 0:
        return 0
    if args.json:
        show_json(json.dumps(outcome.to_record(), ensure_ascii=False))
    else:
        pace = f", {outcome.songs_a_minute:.1f} songs a minute" if outcome.songs_a_minute else ""
        new = f"{outcome.described} described ({outcome.known} were before), {len(outcome.failed)} skipped{pace}"
        show(f"{args.output}: {outcome.songs} {'song' if outcome.songs == 1 else 'songs'}, {new}")
        if outcome.dependence:
            show(outcome.dependence)
    return 1 if outcome.failed or outcome.left_alone else 0


def choose_engine(args: argparse.Namespace) -> "tuple[OneProcess, Callable[[argparse.Namespace, str], Describe]]":
    """Return who describes the songs, and what loads the model there; raises ValueError where Ray is missing."""
    from descant.collections import engines

    if args.engine == "ray":
        return engines.RayCluster(args.ray_address), load_same
    if engines.is_launched():
        launched = engines.Launched()
        return launched, lambda args, _: load_describer(args, str(launched.accelerator.device)).describe
    return engines.OneProcess(), lambda args, _: load_describer(args).describe


def load_same(args: argparse.Namespace, weights: str) -> "Describe":
    """Load the model on another machine; raise ValueError where the one of that name is another one there."""
    from descant.answering.model_folder import find_model, fingerprint_model

    if fingerprint_model(find_model(args.model)) != weights:
        raise ValueError(f"{args.model} is another model on a node than here: copy the same one to every node")
    return load_describer(args).describe


def describe_named(
    load: "Callable[[argparse.Namespace, str], Describe]",
    addresses: Mapping[str, str],
    args: argparse.Namespace,
    weights: str,
) -> "Describe":
    """Load the model, and return what describes a song by its name: its address without what signs it."""
    describe = load(args, weights)
    return lambda name: describe(addresses.get(name, name))


def _show(describer: "Describer", sound: str, args: argparse.Namespace) -> bool:
    """Describe and print one sound; False where it cannot be read, which is said on stderr."""
    from descant.answering.description import format_description
    from descant.data.audio import AudioError
    from descant.data.storage import name_source

    try:
        description = describer.describe(sound)
    except AudioError as error:
        say(f"descant describe: {error}")
        return False
    except Exception as error:  # whatever one file raises is that file's problem
        say(f"descant describe: {name_source(sound)}: {name_error(error)}")
        return False
    if args.json:
        show_json(json.dumps(description, ensure_ascii=False))
    else:
        show("\n".join(map(escape, format_description(description, args.always))))
    return True


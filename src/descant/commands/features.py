"""`descant features`: the log-mel of every clip, computed once into a feature store, or the check of a store."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import count, require_writable, say, show

if TYPE_CHECKING:
    from descant.data.annotations import Annotations, Problem
    from descant.data.extraction import Extraction
    from descant.data.features import FeatureStore
    from descant.models.contract import FrontEnd

EXAMPLES = """\
examples:
  descant features musiccaps-public.csv --audio_dir clips --features features
  descant features my_songs/ --features features
  descant features --verify --features features

CLIPS is a MusicCaps file, a table of your own with an `audio` column, a folder of sound files, or `demo`. Sound is
looked for in the table's own column, then in each --audio_dir (files named <clip_id> or <ytid>, also the .npy files of
LP-MusicCaps), then in each --hub_audio. A second run does what is missing. Clips that cannot be read are skipped and
recorded in skipped.jsonl beside the features. Exit status: 0 every clip has its feature (or no record is damaged),
1 some clips have none (or some records are damaged), 2 refused, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "features",
        help="compute the features of clips once",
        description="Compute the log-mel of every clip into a feature store, or check a store.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clips", metavar="CLIPS", nargs="?", help="a table, a folder of sound files, or demo")
    parser.add_argument(
        "--features", metavar="FOLDER", type=Path, default=Path("features"), help="feature store (default: features)"
    )
    parser.add_argument(
        "--audio_dir", metavar="FOLDER", action="append", default=[], help="sound files; may be given several times"
    )
    parser.add_argument(
        "--hub_audio", metavar="ID", action="append", default=[], help="a Hub dataset with an audio column"
    )
    parser.add_argument("--model", metavar="MODEL", help="the model that needs them (default: any LP-MusicCaps)")
    parser.add_argument("--processes", metavar="N", type=count(1), help="processes (default: by cores and clips)")
    parser.add_argument("--recheck", action="store_true", help="compute anew where the sound has changed")
    parser.add_argument("--verify", action="store_true", help="read every record of the store against its hash")
    parser.add_argument("--repair", action="store_true", help="drop damaged records, so that they are computed anew")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Compute or check features, and return the exit status; raises ValueError for what cannot be done at all."""
    if args.verify or args.repair:
        if args.clips:
            raise ValueError("--verify and --repair look at whole stores: leave CLIPS out")
        return _check(args)
    if not args.clips:
        raise ValueError("name the clips, or give --verify")
    require_writable(args.features)
    return _extract(args)


def _extract(args: argparse.Namespace) -> int:
    from descant.data.clips import gather_clips, read_clip_list
    from descant.data.extraction import extract_features
    from descant.data.features import FeatureStore

    found = read_clip_list(args.clips)
    _report(found.problems)
    if not found.rows:
        unusable = f"none of its {len(found.problems)} records can be used" if found.problems else "holds no records"
        raise ValueError(f"{args.clips}: {unusable}")
    clips = gather_clips(found.rows, args.audio_dir, args.hub_audio)
    if not clips:
        raise ValueError(f"{args.clips}: no sound was found for any of its clips; give --audio_dir")
    extractor = _load_extractor(args.model)
    store = FeatureStore(args.features, extractor.to_dict())
    done = extract_features(clips, extractor, store, args.processes, args.recheck)
    silent = {row.clip_id for row in found.rows} - clips.keys()
    _report([*done.problems, *(f"{clip_id}: no sound was found for it" for clip_id in sorted(silent))])
    show(format_result(done, found, len(silent), store))
    lost = find_lost(clips, done, store)
    if lost:
        say(
            f"descant features: {len(lost)} clips have neither a feature nor a reason, {lost[0]} first: was "
            f"{store.folder} changed meanwhile? Run the same command again"
        )
    return 1 if done.problems or found.problems or silent or lost else 0


def find_lost(clips: Iterable[str], done: "Extraction", store: "FeatureStore") -> list[str]:
    """Return the clips that the store does not hold and that no problem names."""
    store.refresh()
    named = {problem.clip_id for problem in done.problems}
    return [clip_id for clip_id in clips if clip_id not in store and clip_id not in named]


def _report(skipped: "Iterable[Problem | str]") -> None:
    for line in skipped:
        say(f"descant features: skipped {line}")


def _load_extractor(model: str | None) -> "FrontEnd":
    """Load what computes the features: a model's front end and, where it has one, the frozen encoder behind it."""
    from descant.answering.model_folder import find_model, load_model
    from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor

    if model is None:
        return LPMusicCapsFeatureExtractor()
    loaded, processor = load_model(find_model(model))
    return loaded.cached_features(processor.feature_extractor)


def format_result(done: "Extraction", found: "Annotations", silent: int, store: "FeatureStore") -> str:
    """Return one line a kind of clip, then where the features lie."""
    counts = {"computed": done.written, "there before": done.present, "unreadable": len(done.problems)}
    counts |= {"without sound": silent, "bad records": len(found.problems)}
    lines = [f"{name:<14}{count:>7}" for name, count in counts.items() if count or name == "computed"]
    return "\n".join([*lines, f"features: {store.folder} ({len(store)} clips)"])


def _check(args: argparse.Namespace) -> int:
    from descant.data.features import FeatureStore

    folders = [path.parent for path in sorted(args.features.glob("*/settings.json"))]
    folders = [args.features] if (args.features / "settings.json").exists() else folders
    if not folders:
        raise ValueError(f"{args.features}: holds no feature store")
    damaged = 0
    for folder in folders:
        store = FeatureStore.open(folder)
        damages = store.repair() if args.repair else store.verify()
        damaged += len(damages)
        for damage in damages:
            show(f"{folder.name}: {damage.clip_id or 'index'}: {damage.reason}")
        show(f"{folder.name}: {len(store)} clips, {len(damages)} damaged{' and forgotten' if args.repair else ''}")
    return 1 if damaged else 0

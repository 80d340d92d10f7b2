"""`descant classify`: the genre and subgenres of recordings, and what each label rests on."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from descant.program import BrokeOff, loading_to_stay, say, show, show_json, silence_transformers, use_all_cores

if TYPE_CHECKING:
    from descant.subgenre.classify import Classification, Classifying

EXAMPLES = """\
examples:
  descant classify outputs/subgenre song.mp3
  descant classify outputs/subgenre song.mp3 --lyrics song_lyrics.txt --captioner outputs/mi_short_long
  descant classify outputs/subgenre *.flac --json > labels.jsonl

The captioner that the model was trained with hears each file in windows; lyrics are taken from song.lrc or song.txt
beside song.mp3, else from its tags. Under each label stand the pieces without which its probability falls most: a
passage of the lyrics, an answer of the captioner, a window of sound; the number is the fall in points. Lyrics are
cleaned (encodings, HTML, time stamps); those that are empty, say "instrumental" or cannot be read count as missing,
and the labels come from the rest. What was changed or is missing is named on stderr and under `notes`. Exit status:
0 all classified, 1 some files skipped or not heard, 2 usage or refused, 130 interrupted.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "classify",
        help="name the genre and subgenres of sound files",
        description="Name the genre and subgenres of sound files, and what each label rests on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a classifier's folder, or its id on the Hub")
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="+", help="sound files: wav, flac, ogg, opus, mp3, m4a, webm, aiff and others"
    )
    parser.add_argument("--lyrics", metavar="FILE", type=Path, help="a .txt or .lrc with the lyrics of the one AUDIO")
    parser.add_argument("--captioner", metavar="MODEL", help="hears in place of the captioner that the model names")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file, with all labels' scores")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Classify, and return the exit status."""
    from descant.answering.model_folder import CLASSIFYING, find_model
    from descant.data.sources import list_sounds

    find_model(args.model, CLASSIFYING)  # before the seconds that importing torch takes
    if args.captioner:
        find_model(args.captioner)
    sounds = list_sounds(args.audio)
    if args.lyrics:
        _check_lyrics(args.lyrics, len(sounds))
    return _classify(args, sounds)


def _check_lyrics(lyrics: Path, sounds: int) -> None:
    from descant.subgenre.lyrics import read_lyrics_file

    if sounds > 1:
        raise ValueError(f"--lyrics are those of one AUDIO, and {sounds} are given: put each beside its own")
    read_lyrics_file(lyrics)


def _classify(args: argparse.Namespace, sounds: Sequence[str]) -> int:
    with loading_to_stay():
        from descant.answering.stream import Recording, in_order
        from descant.subgenre.classify import Classifying, TrackClassifier, load_captioner

        silence_transformers()
        use_all_cores()
        classifier = TrackClassifier.load(args.model)
        listener, note = load_captioner(classifier, args.captioner)
    if note:
        say(f"descant classify: {note}")
    recordings = list(map(Recording.of, sounds))
    classifying = Classifying(classifier, recordings, listener, lyrics=args.lyrics, note=note)
    shown = skipped = 0
    for found in in_order(_show_progress(classifying)):
        _show(found, args.json, note)
        shown, skipped = shown + 1, skipped + (found.error is not None)
    if shown < len(recordings):
        raise BrokeOff(f"{len(recordings) - shown} files were not classified, {recordings[shown].audio} first")
    unheard = listener is None and classifier.model.config.captioner is not None
    return 1 if skipped or unheard else 0


def _show_progress(classifying: "Classifying") -> "Iterable[tuple[int, Classification]]":
    from tqdm import tqdm

    total = len(classifying.recordings)
    return tqdm(classifying, desc="classifying", unit=" files", total=total, disable=None, leave=False)


def _show(found: "Classification", as_json: bool, shown_before: str | None) -> None:
    """Print a result, and on stderr its notes but the one that was shown before."""
    for problem in [found.error] if found.error else [note for note in found.notes if note != shown_before]:
        say(f"descant classify: {found.audio}: {problem}")
    if as_json:
        show_json(found.to_json())
    elif found.error is None:
        show(found.to_text())

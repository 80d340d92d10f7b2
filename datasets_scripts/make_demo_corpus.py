"""Makes the embedded demo corpus: renders every clip and writes its facts, captions, questions and hashes.

    apt-get install mma fluidsynth fluidr3mono-gm-soundfont musescore-general-soundfont-small && mma -G
    python datasets_scripts/make_demo_corpus.py --output src/descant/data/demo

About five minutes on two cores. `--grooves Tango Samba` renders these grooves only, and `--grooves` alone none: the
tables are always written whole, the other Ogg files stay as they are.

Seeds: `SEED` in demo_corpus/plan.py and a clip's groove, split and number give its seed, which stands in facts.csv and
feeds mma's RndSeed, the tune, the start within the song, the mix and the wordings. The facts, texts and MIDI come out
byte for byte the same (mma 21.09); the Ogg files differ in their random stream number and agree when decoded.

Licences: both soundfonts are MIT licensed (parts are CC0 or public domain) and are named, with their authors, in
src/descant/data/demo/NOTICE. mma and its groove library are GPL-2+ programs that are run, not copied: nothing of them
is in the corpus. Tunes, chord progressions, line-ups, artists' names and all texts are this project's own.
"""

import argparse
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from demo_corpus.arrange import arrange
from demo_corpus.corpus_files import (
    remove_other_audio,
    sha256,
    write_audio,
    write_manifest,
    write_tables,
    write_tracks,
)
from demo_corpus.plan import ClipPlan, plan_corpus
from demo_corpus.render import encode, render

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "src/descant/data/demo")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--grooves", nargs="*", help="render the clips of these grooves only (default: all)")
    args = parser.parse_args()
    plans, hashes = plan_corpus(), {}
    wanted = {plan.clip_id for plan in plans if args.grooves is None or plan.groove.name in args.grooves}
    for clip_id, midi_hash, audio in _make_clips(plans, wanted, args.processes):
        hashes[clip_id] = midi_hash
        if audio is not None:
            write_audio(args.output, clip_id, audio)
    remove_other_audio(args.output, hashes)
    write_tables(plans, hashes, args.output)
    write_tracks(plans, args.output)
    write_manifest(args.output)


def make_clip(plan: ClipPlan, with_audio: bool = True) -> tuple[str, str, bytes | None]:
    """(clip id, hash of its MIDI file, Ogg bytes or None)."""
    arrangement = arrange(plan)
    audio = encode(render(plan, arrangement)) if with_audio else None
    return plan.clip_id, sha256(arrangement.midi_file()), audio


def _make_clips(plans: list[ClipPlan], wanted: set[str], processes: int) -> Iterator[tuple[str, str, bytes | None]]:
    jobs = [(plan, plan.clip_id in wanted) for plan in plans]
    with get_context("spawn").Pool(processes) as pool:
        for number, made in enumerate(pool.imap_unordered(_make_clip_of, jobs, chunksize=4), start=1):
            print(f"\r{number}/{len(plans)} clips", end="", flush=True)
            yield made
    print()


def _make_clip_of(job: tuple[ClipPlan, bool]) -> tuple[str, str, bytes | None]:
    return make_clip(*job)


if __name__ == "__main__":
    main()

"""Makes the large training corpus: thousands of rendered clips whose facts are known, and sound that is no music.

    apt-get install mma fluidsynth espeak-ng fluidr3mono-gm-soundfont fluid-soundfont-gm \\
        musescore-general-soundfont-small timgm6mb-soundfont opl3-soundfont && mma -G
    python datasets_scripts/make_music_corpus.py --output DIR --clips 6000 --processes 2

Writes DIR/audio/<clip_id>.ogg and DIR/facts.jsonl, a line a clip in the order in which they are done. The plan's order
is random over genres, so that any beginning of it is a corpus. Run again, it makes what is missing. All is drawn from
seeds.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from music_corpus.clip import make_clip
from music_corpus.plan import ClipPlan, plan_clips


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    (args.output / "audio").mkdir(parents=True, exist_ok=True)
    done = clips_done(args.output / "facts.jsonl")
    plans = [plan for plan in plan_clips(args.clips) if plan.clip_id not in done]
    failed = 0
    with (args.output / "facts.jsonl").open("a", encoding="utf-8") as lines:
        for number, (clip_id, facts, error) in enumerate(_make_clips(plans, args), start=1):
            if error:
                failed += 1
                print(f"{clip_id}: {error}", file=sys.stderr)
                continue
            lines.write(json.dumps(facts, ensure_ascii=False) + "\n")
            lines.flush()
            if number % 100 == 0:
                print(f"{len(done) + number - failed}/{args.clips} clips", flush=True)
    return 1 if failed else 0


def clips_done(facts: Path) -> set[str]:
    """Return the ids of the whole lines of a facts file; half a line at its end, left by a kill, is cut off."""
    if not facts.exists():
        return set()
    text = facts.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        os.truncate(facts, len(whole))
    return {json.loads(line)["clip_id"] for line in whole.splitlines()}


def _make_clips(plans: list[ClipPlan], args: argparse.Namespace) -> Iterator[tuple[str, dict[str, object], str]]:
    jobs = [(plan, args.output) for plan in plans]
    with get_context("spawn").Pool(args.processes) as pool:
        yield from pool.imap_unordered(_make_and_write, jobs, chunksize=6)


def _make_and_write(job: tuple[ClipPlan, Path]) -> tuple[str, dict[str, object], str]:
    plan, output = job
    try:
        audio, facts = make_clip(plan)
    except (OSError, ValueError, IndexError, ZeroDivisionError, subprocess.SubprocessError) as error:
        return plan.clip_id, {}, f"{type(error).__name__}: {error}"
    path = output / str(facts["file"])
    temporary = path.with_suffix(".part")
    temporary.write_bytes(audio)
    temporary.replace(path)
    return plan.clip_id, facts, ""


if __name__ == "__main__":
    sys.exit(main())

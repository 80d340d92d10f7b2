"""Write the rows that the model in the box is trained on: renderings, singers over them, real music, and no music.

    python datasets_scripts/make_box_corpus.py --output box --features features --facts corpus/facts.jsonl
    accelerate launch recipes/box.py --dataset box/rows.jsonl --features features

The embedded corpus's training clips are always among them, a tenth of them for validation. Every file of --facts
(`facts.jsonl`, as datasets_scripts/make_music_corpus.py writes it) adds its clips but those of the split `test`.
espeak-ng sings and speaks.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from box_corpus.audible import find_audible
from box_corpus.facts import Known, read_demo, read_facts, read_record
from box_corpus.hearing import hear_clips, name_tags
from box_corpus.no_music import make_no_music
from box_corpus.rows import make_rows
from box_corpus.singers import sing_over
from box_corpus.taught import INSTRUMENTS, fit_thresholds, teach, teach_rendering

from descant.data.demo import demo_dir
from descant.files import JsonLines


def main() -> None:
    """Write clips and rows, and print how many of what there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for rows.jsonl and the clips made here")
    parser.add_argument("--features", required=True, help="folder of the feature store")
    parser.add_argument("--facts", type=Path, action="append", default=[], help="a facts.jsonl; may be given again")
    parser.add_argument("--limit", type=int, default=0, help="clips taken of each facts.jsonl (0: all)")
    parser.add_argument("--sung", type=float, default=0.35, help="singers, as a share of the renderings")
    parser.add_argument("--no_music", type=int, default=200, help="clips of speech and noise that are made here")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    clips = list(read_demo(demo_dir()))
    for path in args.facts:
        found = [known for known in read_facts(path) if known.split != "test"]
        clips += found[: args.limit or None]
    clips += make_singers([one for one in clips if one.rendered], args.output, args.sung)
    clips += make_silent(args.output, args.no_music)
    teach_by_ear(clips, args.features)
    rows = [row for known in clips for row in make_rows(known)]
    JsonLines(args.output / "rows.jsonl").write(rows)
    counts = dict(Counter(row["question_type"] for row in rows))
    print(len(clips), "clips,", len(rows), "rows:", counts, file=sys.stderr)


def make_singers(renderings: list[Known], folder: Path, share: float) -> list[Known]:
    """Return the clips in which a singer is heard over a rendering: those that are there, and what the share lacks."""
    ledger = JsonLines(folder / "sung.jsonl")
    done = {record["clip_id"]: record for record in ledger.read()}
    chosen = renderings[:: max(1, round(1 / share))] if share else []
    missing = [one for one in chosen if f"sung-{one.clip_id}" not in done]
    for record in sing_over([as_record(one) for one in missing], folder):
        ledger.append(record)
        done[record["clip_id"]] = record
    there = {one.clip_id for one in renderings}
    return [read_record(record, (folder / record["file"]).resolve()) for name, record in done.items()
            if name.removeprefix("sung-") in there]  # fmt: skip


def teach_by_ear(clips: list[Known], features: str) -> None:
    """Write into clips what the ears tell: which instruments of renderings can be heard, and all of real clips."""
    states = hear_clips({one.clip_id: one.audio for one in clips if one.music}, features)
    audible = find_audible(clips, states)
    for one in clips:
        one.audible = audible.get(one.clip_id, [])
    counts = [sum(len(getattr(one, name)) for one in clips if one.instruments) for name in ("audible", "instruments")]
    print(f"audible: {counts[0]:,} of the {counts[1]:,} instruments of renderings", file=sys.stderr)
    tags = name_tags(states)
    for one in clips:
        if one.rendered and one.clip_id in tags:
            teach_rendering(one, tags[one.clip_id])
    teach_real(clips, tags)


def teach_real(clips: list[Known], tags: dict[str, dict[str, float]]) -> None:
    """Write into real clips what both networks are sure of, by thresholds that the other clips give."""
    real = [one for one in clips if one.music and not one.rendered]
    if not real:
        return
    thresholds = fit_thresholds(clips, tags)
    for name, found in thresholds.items():
        said = ", ".join(f"yes from {one.yes:.2f}, no below {one.no:.2f}" for one in found)
        print(f"{name}: {said}", file=sys.stderr)
    for known in real:
        if known.clip_id in tags:
            teach(known, tags[known.clip_id], thresholds)
    taught = [one for one in real if one.split == "train"]
    for kind in ("genre", "classical", "vocals", "voice", "electronic", "mood", "drums"):
        print(f"real {kind}:", dict(Counter(str(getattr(one, kind)) for one in taught)), file=sys.stderr)
    for name in INSTRUMENTS:
        print(f"real {name}:", dict(Counter(str(one.presence.get(name)) for one in taught)), file=sys.stderr)


def make_silent(folder: Path, count: int) -> list[Known]:
    """Return clips of speech, noise and animals, made where they are missing."""
    records = make_no_music(folder, count)
    return [read_record(record, (folder / record["file"]).resolve()) for record in records]


def as_record(known: Known) -> dict[str, Any]:
    """Return what is known of a rendering, in the columns of facts.jsonl."""
    names = ("clip_id", "split", "mood", "tempo_class", "metre", "instruments", "drums", "bass")
    return {"kind": "rendered", "path": str(known.audio), **{name: getattr(known, name) for name in names}}


if __name__ == "__main__":
    main()

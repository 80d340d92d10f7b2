"""Finds rows of the model in the box about what is kept for tests: sounds, grooves, and grooves with chords.

A generator's clip is planned again from its seed, so that the plan says what was rendered: its groove file and chords.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_corpus.plan import plan_corpus
from music_corpus.groove_library import DEMO_TEST_FILES, INDEPENDENT_TEST_FILES, demo_test_pairs
from music_corpus.plan import ClipPlan, plan_clips

from descant.data.demo import demo_dir, facts
from descant.files import sha256_of

TAUGHT = ("train", "validation")
MADE_HERE = "other-"  # speech and noise of make_box_corpus.py
SUNG = "sung-"
PLANNED = ("groove", "key", "tempo_bpm", "split")  # columns in which a clip must be as its plan says


@dataclass
class Findings:
    """Leaks, a sentence each, and how many clips of what kind were looked at."""

    leaks: list[str] = field(default_factory=list)
    looked_at: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str) -> None:
        """Count a clip of a kind."""
        self.looked_at[kind] = self.looked_at.get(kind, 0) + 1


def find_leaks(rows: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]]) -> Findings:
    """Look at the clip of every row.

    rows: rows of the dataset, with `clip_id`, `split` and `audio`. records: lines of facts.jsonl of the generator and
    of real recordings, in which the split of a clip is its own.
    """
    found = Findings()
    clips = {row["clip_id"]: row for row in rows}
    by_id = {record["clip_id"]: record for record in records}
    plans = {plan.clip_id: plan for plan in plan_clips(1 + max(map(number_of, by_id), default=0))}
    demo = {record["clip_id"]: record["split"] for record in facts()}
    kept = {sha256_of(demo_dir() / "audio" / f"{clip}.ogg") for clip, split in demo.items() if split != "train"}
    for clip, row in clips.items():
        source = clip.removeprefix(SUNG)
        if row["split"] not in TAUGHT:
            found.leaks.append(f"{clip}: is of the split {row['split']}")
        if sha256_of(Path(row["audio"])) in kept:
            found.leaks.append(f"{clip}: has the sound of a clip that the embedded corpus is tested on")
        if source in demo:
            found.count("embedded corpus")
            found.leaks += [f"{clip}: is of the embedded corpus's {demo[source]}"] if demo[source] != "train" else []
        elif source in by_id:
            found.count(by_id[source]["kind"])
            found.leaks += [f"{clip}: {leak}" for leak in look_at(row, by_id[source], plans.get(source))]
        elif clip.startswith(MADE_HERE):
            found.count("no music, made for it")
        else:
            found.leaks.append(f"{clip}: nothing says where it is from")
    return found


def look_at(row: Mapping[str, Any], record: Mapping[str, Any], plan: ClipPlan | None) -> Iterator[str]:
    """Yield what is wrong with a row about a clip of a facts.jsonl. plan: None for a real recording."""
    if record["split"] != row["split"]:
        yield f"its split is {record['split']}, and its row says {row['split']}"
    if record["kind"] != "rendered":
        return
    if plan is None or not is_as_planned(record, plan):
        yield "is not what its seed plans: its chords are not known"
    elif plan.groove and plan.groove.file in INDEPENDENT_TEST_FILES:
        yield f"its groove file {plan.groove.file} is kept for an independent test"
    elif plan.groove and plan.groove.file in DEMO_TEST_FILES:
        yield f"its groove file {plan.groove.file} is of the embedded corpus's test_grooves"
    elif plan.groove and (plan.groove.file, plan.numerals) in demo_test_pairs():
        yield f"{plan.groove.file} over {plan.numerals} is in the embedded corpus's test"


def is_as_planned(record: Mapping[str, Any], plan: ClipPlan) -> bool:
    """Return whether a rendered clip has the groove, key, tempo and split of a plan."""
    groove = f"{plan.groove.file}:{plan.groove.name}" if plan.kind == "song" and plan.groove else None
    planned = (groove, plan.key, plan.tempo_bpm, plan.split)
    return tuple(record[name] for name in PLANNED) == planned


def number_of(clip_id: str) -> int:
    """Return the place of a generator's clip in the plan; 0 for other clips."""
    return int(clip_id[1:]) if clip_id[:1] == "m" and clip_id[1:].isdigit() else 0


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def describe_kept() -> str:
    """Return what is kept for tests, in numbers."""
    tested = sum(plan.split.startswith("test") for plan in plan_corpus())
    return (
        f"kept for tests: {tested} clips of the embedded corpus, {len(demo_test_pairs())} pairs of groove and chords, "
        f"{len(DEMO_TEST_FILES)} groove files of its test_grooves, {len(INDEPENDENT_TEST_FILES)} of another test"
    )

"""Score the model in the box by question type: renderings of held-out grooves, real recordings, and what is no music.

    python tests/benchmarks/bench_box.py --facts corpus/facts.jsonl --clips 300
    python tests/benchmarks/bench_box.py --known real/known.jsonl

`facts.jsonl` is what datasets_scripts/make_music_corpus.py writes; its split `test` is scored. A line of `known.jsonl`
names a `file` and its `facts`: music, vocals, drums (true, false or null: unknown), voice, instruments,
lead_instrument, solo, genre, electronic_or_acoustic.

Each line: decisions, right with the best guess (with a 95 % interval by clips), the commonest answer's share, and the
coverage and precision at the fitted threshold. Of renderings, also how many claims of descriptions in words hold, how
many there are in one, and how many are grammatical: without what the model is not sure of, and with that.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import descant
from descant.answering.answers import Decider
from descant.data.audio import AudioError
from descant.data.terms import Claims, find_terms
from descant.evaluation.claims import consistency_measures, long_measures
from descant.evaluation.predictions_file import Item
from descant.models.lp_music_caps.track_music import state

sys.path.insert(0, str(Path(__file__).parents[2] / "datasets_scripts"))
from box_corpus.facts import PRESENCE, Known, read_facts  # noqa: E402

HEARD = {"piano": ("piano",), "strings": ("violin", "strings", "cello"), "guitar": ("guitar",)}
DESCRIBE = "Describe this music in detail."
GATED = ("drums", "bass present", "tempo_class", "lead_family")
YES_NO = {
    "vocals": "Is there a singer?", "drums": "Are there drums?", "piano": "Is there a piano?",
    "strings": "Are there strings?", "guitar": "Is there a guitar?", "classical": "Is this classical music?",
    "bass present": "Is there a bass?",
}  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One answer beside the truth; `wanted` is None for a clip without music, `refused` why nothing was answered."""

    kind: str
    clip: str
    wanted: str
    given: str
    sure: bool
    refused: str | None


def main() -> None:
    """Decide, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="box")
    parser.add_argument("--facts", type=Path)
    parser.add_argument("--known", type=Path)
    parser.add_argument("--clips", type=int, default=0, help="at most so many clips of the facts (0: all)")
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    listener = descant.load(args.model)
    if args.facts:
        found = [one for one in read_facts(args.facts) if one.split == args.split]
        step = max(1, len(found) // args.clips) if args.clips else 1
        truths = {str(one.audio): truth_of(one) for one in found[::step]}
        report(f"{args.facts}, split {args.split}", list(decide_all(listener, truths)), GATED)
        music = [one for one in found[::step] if one.music]
        for title, everything in (("said", False), ("as worded", True)):
            asked = descant.load(args.model, everything=everything)
            report_claims(title, list(answer_long(asked, music)))
    if args.known:
        lines = [json.loads(line) for line in args.known.read_text().splitlines()]
        truths = {str(args.known.parent / line["file"]): spell(line) for line in lines}
        report(str(args.known), list(decide_all(listener, truths)), ())


def truth_of(known: Known) -> dict[str, str]:
    """Return question type → right answer of a clip from the generator."""
    if not known.music:
        return {"music": "no"}
    names = ("tempo_class", "metre", "lead_instrument", "lead_family", "mood", "electronic", "bass")
    truth = {name: getattr(known, name) for name in names if getattr(known, name)}
    yes_no = {"drums": known.drums, "vocals": known.vocals, **known.presence}
    if known.bass:
        yes_no["bass present"] = known.bass != "no bass"
    return truth | {name: "yes" if one else "no" for name, one in yes_no.items() if one is not None}


def spell(line: Mapping[str, Any]) -> dict[str, str]:
    """Return question type → right answer of a line of known.jsonl: its `facts`, where they are not null."""
    facts = line["facts"]
    if facts["music"] is False:
        return {"music": "no"}
    yes_no = {name: facts.get(name) for name in ("vocals", "drums")}
    names = [facts.get("lead_instrument") or "", *(facts.get("instruments") or [])]
    if facts.get("solo") or facts.get("instruments"):
        for name, words in HEARD.items():
            there = any(word in one for one in names for word in words)
            yes_no[name] = there if there or facts.get("solo") else None
    if facts.get("genre"):
        yes_no["classical"] = facts["genre"] == "classical"
    truth = {name: "yes" if one else "no" for name, one in yes_no.items() if one is not None}
    named = {"voice": facts.get("voice"), "electronic": facts.get("electronic_or_acoustic")}
    return truth | {name: one for name, one in named.items() if one}


def decide_all(listener: descant.Listener, truths: Mapping[str, dict[str, str]]) -> Iterator[Decision]:
    """Decide all questions of all clips, and yield those whose answer is known."""
    types = listener.model.decision_config.types()
    choices = ("tempo_class", "metre", "lead_instrument", "lead_family", "mood", "electronic", "bass", "voice")
    questions: dict[str, dict[str, Any]] = {
        kind: {"type": "choice", "instructions": types[kind].questions[0],
               "criteria": dict.fromkeys(types[kind].answers)}
        for kind in choices if kind in types
    }  # fmt: skip
    if "voice" in questions:
        questions["voice"]["criteria"] = {"female": None, "male": None}
    asked = {name: f"Is there a {name}?" for name in PRESENCE} | YES_NO
    questions |= {name: {"type": "noul", "instructions": text} for name, text in asked.items()}
    decider = Decider(listener.model, listener.processor, questions)
    for path, truth in truths.items():
        try:
            answers = decider.decide(path).answers
        except AudioError:  # silence may be refused
            answers = {}
        if truth.get("music") == "no":
            refused = [not one["sure"] for one in answers.values()]
            reason = next((one["reason"] for one in answers.values() if one.get("reason") == "no music"), None)
            yield Decision("no music", path, "refused", "refused" if all(refused) else "answered", True, reason)
            continue
        for kind, wanted in truth.items():
            if kind in answers:
                given, _ = state(answers[kind])
                yield Decision(kind, path, wanted, given, answers[kind]["sure"], answers[kind].get("reason"))


def answer_long(listener: descant.Listener, found: Sequence[Known]) -> Iterator[tuple[Known, str]]:
    """Describe each clip in words."""
    for known in found:
        try:
            yield known, listener.ask(known.audio, DESCRIBE).prediction or ""
        except (AudioError, ValueError):  # silence
            continue


def report_claims(title: str, described: Sequence[tuple[Known, str]]) -> None:
    """Print how many claims of long answers contradict nothing that is known of their clips."""
    facts = {known.clip_id: known_claims(known) for known, _ in described}
    items = [Item(text, (), known.clip_id, question_type="long_description") for known, text in described]
    for one in (*consistency_measures(items, facts), *long_measures(items, facts)):
        low, high = one.interval([item.clip for item in items])
        print(f"{title:<18}{one.name:<32}{one.value():>8.3f}  [{low:.3f}, {high:.3f}] of {one.counts[:, 1].sum():.0f}")


def known_claims(known: Known) -> Claims:
    """Return what is known of a clip, in the terms of the claim reader; an instrument in a mix is one that plays."""
    said = {
        "tempi": (known.tempo_class, "tempo_class"), "moods": (known.mood, "mood"), "metres": (known.metre, "metre"),
        "basses": (known.bass, "bass"), "genres": (known.genre, "genre"),
    }  # fmt: skip
    claims = {name: find_terms(value, kind) for name, (value, kind) in said.items() if value}
    plays = frozenset[str]().union(*(find_terms(name, "instruments") for name in known.instruments))
    claims["instruments"] = plays | {name for name, there in known.presence.items() if there}
    if known.drums is not None:
        claims["drums"] = frozenset({"drums" if known.drums else "no drums"})
    if known.vocals is not None:
        claims["voices"] = frozenset({"vocals" if known.vocals else "no vocals"})
    return claims


def report(title: str, decisions: list[Decision], gated: tuple[str, ...]) -> None:
    """Print a table of a set of clips."""
    print(f"\n{title}: {len({one.clip for one in decisions})} clips")
    names = f"{'right':>8}{'interval':>15}{'commonest':>11}{'coverage':>10}{'precision':>11}"
    print(f"{'question type':<18}{'n':>6}{names}")
    by_kind: defaultdict[str, list[Decision]] = defaultdict(list)
    for one in decisions:
        by_kind[one.kind].append(one)
    for kind, found in by_kind.items():
        print(f"{kind:<18}" + describe(found))
    music = [one for one in decisions if one.kind != "no music"]
    if music:
        print(f"{'all':<18}" + describe(music))
        print("refused as no music:", sum(one.refused == "no music" for one in music), "of", len(music), "decisions")
    if gated:
        together = [one for one in decisions if one.kind in gated]
        if together:
            print(f"{'+'.join(gated)}: " + describe(together).strip())
    wrong = Counter((one.kind, one.wanted, one.given) for one in music if one.wanted != one.given)
    print("commonest mistakes (type, right, given):", wrong.most_common(12))


def describe(found: list[Decision]) -> str:
    """Return the numbers of one line."""
    hits = np.array([one.wanted == one.given for one in found])
    clips = np.unique([one.clip for one in found], return_inverse=True)[1]
    generator, shares = np.random.default_rng(0), []
    sums, counts = np.bincount(clips, hits), np.bincount(clips)
    for _ in range(1000):
        drawn = generator.integers(0, len(counts), len(counts))
        shares.append(sums[drawn].sum() / counts[drawn].sum())
    low, high = np.percentile(shares, [2.5, 97.5])
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        by_kind[one.kind][one.wanted] += 1
    common = sum(counts.most_common(1)[0][1] for counts in by_kind.values()) / len(found)
    sure = np.array([one.sure for one in found])
    precision = f"{hits[sure].mean():.2f}" if sure.any() else "-"
    interval = f"{low:.2f}–{high:.2f}"
    return f"{len(found):>6}{hits.mean():>8.2f}{interval:>15}{common:>11.2f}{sure.mean():>10.2f}{precision:>11}"


if __name__ == "__main__":
    main()

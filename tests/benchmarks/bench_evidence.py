"""Whether an answer rests on the seconds that `descant decide --explain` shows: clips with known parts, and silencing.

    python tests/benchmarks/bench_evidence.py --models box outputs/mi_short_long-demo --clips 120

Each clip is one of the demo corpus, of which four seconds, anywhere, are another one's, as loud. What the two clips
differ in is asked. An answer that is true of one part should rest on that part's seconds; and silence in the seconds
that are shown should change the answer more than silence in as many others.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

import numpy as np
import torch

from descant.answering import evidence
from descant.answering.answers import as_span
from descant.answering.evidence import Span, explain_windows, find_outstanding
from descant.answering.listener import Listener
from descant.data.audio import Window, load_audio
from descant.data.demo.corpus import demo_dir, facts
from descant.evaluation.measures import mean_of
from descant.models.lp_music_caps.decision_music import QuestionType, decide_options, prepare_windows
from descant.models.lp_music_caps.track_music import TrackDecider

ASKED = ("genre", "tempo_class", "lead_instrument", "drums", "bass", "mood", "metre")
SECONDS, PART_S, DRAWS = 10, 4, 2
Waveform = np.ndarray  # (samples,)


@dataclass(frozen=True)
class Mix:
    """A clip with a part of another: which seconds the part has, and what is true of both, by question type."""

    samples: Waveform
    start_s: int
    around: Mapping[str, str]
    part: Mapping[str, str]


@dataclass
class Found:
    """What was measured about answers, a number for each: `hits` and `chances` of those that are true of one part."""

    clips: list[int] = field(default_factory=list)  # of the changes
    shown: list[float] = field(default_factory=list)  # what the probability loses with the shown seconds silenced
    others: list[list[float]] = field(default_factory=list)  # with as many others silenced, drawn some times
    even: int = 0  # answers for which no second stands out
    pointed: list[int] = field(default_factory=list)  # clips of the hits
    hits: list[float] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def read_truth(row: Mapping[str, str], kind: str) -> str:
    """Return what the facts say about a clip, as the options of a question type have it."""
    return {"yes": "drums", "no": "no drums"}[row[kind]] if kind == "drums" else row[kind]


def make_mix(around: Mapping[str, str], part: Mapping[str, str], start_s: int, rate: int) -> Mix:
    """Put seconds of one clip into another, as loud as that one is."""
    whole, other = (load_clip(row["clip_id"], rate) for row in (around, part))
    other = other * np.sqrt(np.square(whole).mean() / max(np.square(other).mean(), 1e-9))
    share = fade_between(len(whole), start_s * rate, (start_s + PART_S) * rate, rate)
    samples = whole * (1 - share) + other * share
    samples = (samples / max(1.0, np.abs(samples).max())).astype(np.float32)
    known = [{kind: read_truth(row, kind) for kind in ASKED} for row in (around, part)]
    return Mix(samples, start_s, *known)


def load_clip(clip_id: str, rate: int) -> Waveform:
    return load_audio(str(demo_dir() / "audio" / f"{clip_id}.ogg"), rate)[: SECONDS * rate]


def fade_between(samples: int, start: int, end: int, rate: int) -> Waveform:
    """Return 1 between two samples and 0 elsewhere, with slopes of 10 ms."""
    inside = np.zeros(samples)
    inside[max(0, start) : end] = 1.0
    return np.convolve(inside, np.full(rate // 100, 100 / rate), mode="same")


def silence(samples: Waveform, spans: Sequence[Span], rate: int) -> Waveform:
    """Return samples that are silent in some spans."""
    for span in spans:
        ends = round(span.start_s * rate), round(span.end_s * rate)
        samples = samples * (1 - fade_between(len(samples), *ends, rate))
    return samples.astype(np.float32)


# Ways to occlude, beside the one that is used.


def use_silence(samples: Waveform, start: int, end: int, rate: int) -> Waveform:
    return silence(samples, [Span(start / rate, end / rate, 0.0)], rate)


def cut_out(samples: Waveform, start: int, end: int, rate: int) -> Waveform:
    """Leave a span out, and repeat what is left, as short windows are repeated."""
    return np.resize(np.concatenate([samples[: max(0, start)], samples[end:]]), len(samples))


def use_noise(samples: Waveform, start: int, end: int, rate: int) -> Waveform:
    """Put noise of the window's own spectrum and level into a span: a steady sound with the window's mean mel."""
    power = np.convolve(np.abs(np.fft.rfft(samples)) ** 2, np.full(50, 1 / 50), mode="same")
    phases = np.exp(2j * np.pi * np.random.default_rng(max(0, start)).random(len(power)))
    noise = np.fft.irfft(np.sqrt(power) * phases, len(samples))
    noise *= np.sqrt(np.square(samples).mean() / max(np.square(noise).mean(), 1e-12))
    share = fade_between(len(samples), start, end, rate)
    return (samples * (1 - share) + noise * share).astype(np.float32)


OCCLUSIONS: dict[str, Callable[[Waveform, int, int, int], Waveform]] = {
    "other": evidence.occlude, "silence": use_silence, "cut": cut_out, "noise": use_noise,
}  # fmt: skip


def measure(listener: Listener, clips: int, split: str, seed: int = 0) -> Found:
    """Explain answers about so many clips, and check what is shown."""
    random, found = np.random.default_rng(seed), Found()
    rate = listener.processor.feature_extractor.sampling_rate
    types = listener.model.decision_config.types()
    rows = [row for row in facts() if row["split"] == split]
    number = 0
    while number < clips:
        around, part = (rows[one] for one in random.choice(len(rows), 2, replace=False))
        mix = make_mix(around, part, int(random.integers(SECONDS - PART_S + 1)), rate)
        differing = {
            kind: types[kind] for kind in ASKED
            if kind in types and mix.around[kind] != mix.part[kind]
            and {mix.around[kind], mix.part[kind]} <= set(types[kind].answers)
        }  # fmt: skip
        if differing:
            measure_mix(listener, mix, differing, found, number, random)
            number += 1
    return found


def measure_mix(
    listener: Listener, mix: Mix, types: Mapping[str, QuestionType], found: Found, number: int,
    random: np.random.Generator,
) -> None:  # fmt: skip
    """Ask of one clip what its parts differ in, and add to what was found."""
    tracks = TrackDecider(listener.model, listener.processor, {name: as_choice(kind) for name, kind in types.items()})
    tracks.reference, tracks.gate = None, []  # what is put together of music is music
    window = Window(0.0, float(SECONDS), mix.samples)
    answers = tracks.decide([as_span(window)])
    for place, (kind, one) in enumerate(explain_windows(tracks, answers, [window]).items()):
        found.kinds[kind] += 1
        strongest = max(one.spans, key=lambda span: span.drop)
        inside = [mix.start_s <= span.start_s < mix.start_s + PART_S for span in one.spans]
        if one.option in (mix.around[kind], mix.part[kind]):
            right = [within == (one.option == mix.part[kind]) for within in inside]
            found.pointed.append(number)
            found.hits.append(float(right[one.spans.index(strongest)]))
            found.chances.append(mean(right))
        shown = sorted(find_outstanding(one.spans), key=lambda span: span.drop, reverse=True)[: len(one.spans) // 2]
        if not shown:
            found.even += 1
            continue
        rest = [span for span in one.spans if span not in shown]
        drawn = [[rest[index] for index in random.choice(len(rest), len(shown), replace=False)] for _ in range(DRAWS)]
        losses = measure_losses(tracks, place, window, [shown, *drawn])
        found.clips.append(number)
        found.shown.append(losses[0])
        found.others.append(losses[1:])


def as_choice(kind: QuestionType) -> dict[str, Any]:
    return {"type": "choice", "instructions": kind.questions[0], "criteria": dict.fromkeys(kind.answers)}


def measure_losses(
    tracks: TrackDecider, place: int, window: Window, silenced: Sequence[Sequence[Span]]
) -> list[float]:
    """Return how far the probability of a question's answer falls where each of these spans are silent."""
    rate = tracks.processor.feature_extractor.sampling_rate
    prepared = {name: values[place : place + 1] for name, values in tracks.prepared.items()}
    waves = [silence(window.samples, spans, rate) for spans in silenced]
    (scores,) = tracks.model.score_options(prepare_windows(waves, tracks.processor), **prepared)
    planned = tracks.answerable[place]
    whole = decide_options(planned, tracks.scores[place])
    option = int(whole.argmax())
    return [float(whole[option].exp() - decide_options(planned, row[None])[option].exp()) for row in scores]


def summarise(found: Found) -> dict[str, Any]:
    """Return means, with 95 % intervals by clip."""
    shown, others = np.array(found.shown), np.array(found.others)
    rows: dict[str, Any] = {}
    for name, (one, other) in {"change": (abs(shown), abs(others).mean(axis=1)),
                               "fall": (shown, others.mean(axis=1))}.items():  # fmt: skip
        gap = mean_of(name, one - other)
        rows[name] = {"shown": round(one.mean(), 4), "others": round(other.mean(), 4), "more": round(gap.value(), 4),
                      "95 %": bounds(gap.interval(found.clips))}  # fmt: skip
    hits, chances = mean_of("hits", found.hits), mean_of("chance", found.chances)
    above = mean_of("above", np.array(found.hits) - np.array(found.chances))
    return {
        "answers": sum(found.kinds.values()), "clips": len(set(found.clips)), "no second stands out": found.even,
        **rows,
        "true of a part": len(found.hits), "pointed right": round(hits.value(), 4),
        "pointed right, 95 %": bounds(hits.interval(found.pointed)), "chance": round(chances.value(), 4),
        "above chance, 95 %": bounds(above.interval(found.pointed)), "types": dict(found.kinds),
    }  # fmt: skip


def bounds(interval: Any) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]


def measure_time(listener: Listener, runs: int = 5) -> dict[str, float]:
    """Return the processor seconds of one question about one window, decided, and decided with its evidence."""
    types = listener.model.decision_config.types()
    questions = {"drums": as_choice(types["drums"])}
    tracks = TrackDecider(listener.model, listener.processor, questions)
    clip = load_clip(facts()[0]["clip_id"], listener.processor.feature_extractor.sampling_rate)
    window = Window(0.0, float(SECONDS), clip)
    seconds: dict[str, list[float]] = {"decided": [], "evidence": []}
    for _ in range(runs):
        began = time.process_time()
        answers = tracks.decide([as_span(window)])
        decided = time.process_time()
        explain_windows(tracks, answers, [window])
        seconds["decided"].append(decided - began)
        seconds["evidence"].append(time.process_time() - decided)
    return {name: round(median(values), 3) for name, values in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object a model and occlusion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["box"], help="model folders with decision.json")
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--split", default="test", help="of the demo corpus (default: %(default)s)")
    parser.add_argument("--occlusions", nargs="+", default=["other"], choices=list(OCCLUSIONS))
    parser.add_argument("--margin", type=float, default=evidence.MARGIN_S, help="seconds occluded on both sides")
    args = parser.parse_args(argv)
    evidence.MARGIN_S = args.margin
    torch.set_num_threads(1)
    for model in args.models:
        listener = Listener.load(model)
        print(json.dumps({"model": model, "processor seconds": measure_time(listener)}), flush=True)
        for name in args.occlusions:
            evidence.occlude = OCCLUSIONS[name]
            found = measure(listener, args.clips, args.split)
            tried = {"model": model, "occlusion": name, "margin": args.margin}
            print(json.dumps(tried | summarise(found)), flush=True)


if __name__ == "__main__":
    main()

"""What typed answers of demo models are worth: accuracy beside generated answers, calibration, what is music, time.

    accelerate launch recipes/mi_short_long.py --demo --init_from none --seed 1 --output_dir outputs/seed1
    python tests/benchmarks/bench_decisions.py --models outputs/seed1 outputs/seed2 --features features

Each model is fitted on the demo's validation split, unless its folder has a decision.json, and measured on the test
split.
"""

import argparse
import io
import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
import soundfile
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import find_model, load_model
from descant.data.annotations import Row
from descant.data.audio import resample
from descant.data.corpus import Corpus, load_corpus
from descant.data.extraction import prepare_features
from descant.data.features import FeatureStore
from descant.data.terms import find_terms
from descant.evaluation.calibration import (
    accuracy_at,
    build_type_tree,
    decide_rows,
    expected_calibration_error,
    join,
    read_confidences,
)
from descant.evaluation.controls import answer_rows
from descant.evaluation.exact import exact_answer
from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration
from descant.models.lp_music_caps.answer_tree import build_tree
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig
from descant.models.lp_music_caps.track_music import MusicReference, describe_sound, measure_bands
from descant.training.decisions import save_decisions

TYPES = ("genre", "tempo_class", "drums", "bass", "lead_instrument", "mood", "metre")
RATE, SECONDS, SOUNDS = 16_000, 10, 60
VOICES = ("en", "en-us+f3", "de", "fr+f2", "en+m3", "es", "it+f4")
WORDS = [
    "the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "ships", "sail", "slowly",
    "past", "old", "harbour", "wall", "nobody", "says", "anything", "about", "weather", "price", "of", "bread",
]  # fmt: skip


def measure_accuracy(
    model: PreTrainedModel, processor: ProcessorMixin, config: MusicDecisionConfig, rows: Sequence[Row],
    store: FeatureStore,
) -> tuple[dict[str, float], dict[str, float]]:  # fmt: skip
    """Score typed and generated answers to the same questions of seven types.

    Returns the scores, and by clip the share of its questions that typed answers have right more often.
    """
    types = {name: kind for name, kind in config.types().items() if name in TYPES}
    scored = decide_rows(model, processor, types, config.wordings, rows, store, config.hidden)
    found = {name: read_confidences(one, types[name].temperature, types[name].threshold)
             for name, one in scored.items()}  # fmt: skip
    pooled = join(list(found.values()))
    asked = [row for row in rows if row.question_type in types
             and len(find_terms(row.answer, row.question_type)) == 1]  # fmt: skip
    predictions = answer_rows(model, processor, asked, store, progress="generating")
    hits = [exact_answer(text, row.answer, row.question_type) for text, row in zip(predictions, asked, strict=True)]
    gains: defaultdict[str, list[float]] = defaultdict(list)
    generated = {(row.clip_id, row.question_type): hit for row, hit in zip(asked, hits, strict=True)}
    for name, one in found.items():
        for clip, hit in zip(one.clips, one.hits, strict=True):
            gains[clip].append(float(hit) - generated[clip, name])
    at_60 = accuracy_at(pooled.probabilities, pooled.hits)
    within = mean(accuracy_at(one.probabilities, one.hits) for one in found.values())
    accuracy = float(pooled.hits.mean())
    scores = {
        "decisions": len(pooled.hits), "typed": accuracy, "generated": mean(hits), "gain": accuracy - mean(hits),
        "ece": expected_calibration_error(pooled.probabilities, pooled.hits), "brier": float(pooled.squared.mean()),
        "gain_at_60": at_60 - accuracy, "gain_at_60_within": within - accuracy, "sure": float(pooled.sure.mean()),
        "precision_of_sure": float(pooled.hits[pooled.sure].mean()) if pooled.sure.any() else float("nan"),
    }  # fmt: skip
    return scores, {clip: mean(values) for clip, values in gains.items()}


def paired_interval(gains: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Return the 95 % interval of the mean gain of some models over clips drawn with replacement."""
    by_clip = np.array([mean(one[clip] for one in gains) for clip in sorted(gains[0])])
    drawn = np.random.default_rng(0).integers(len(by_clip), size=(2000, len(by_clip)))
    low, high = np.percentile(by_clip[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


def make_sounds(random: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Return waveforms of 10 s that are no music, at levels between −30 and −3 dB."""
    count = RATE * SECONDS
    times = np.arange(count) / RATE
    spectrum = np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), 1.0))

    def pink() -> np.ndarray:
        wave = np.fft.irfft(np.fft.rfft(random.normal(size=count)) / spectrum, count)
        return wave / np.abs(wave).max()

    def tone(number: int) -> np.ndarray:
        wave = np.sin(2 * np.pi * 2 ** random.uniform(np.log2(60), np.log2(4000)) * times)
        gate = np.sin(2 * np.pi * random.uniform(0.5, 8) * times) > 0
        return (wave, np.sign(wave), wave * gate)[number % 3]

    made = {
        "white noise": [0.3 * random.normal(size=count) for _ in range(SOUNDS)],
        "pink noise": [pink() for _ in range(SOUNDS)],
        "tones": [tone(number) for number in range(SOUNDS)],
        "speech": [speak(random, number) for number in range(SOUNDS)] if shutil.which("espeak-ng") else [],
    }
    return {
        name: [np.clip(10 ** (random.uniform(-30, -3) / 20) * wave, -1, 1) for wave in waves]
        for name, waves in made.items() if waves
    }  # fmt: skip


def speak(random: np.random.Generator, number: int) -> np.ndarray:
    """Return 10 s of synthetic speech in one of seven voices."""
    text = " ".join(random.choice(WORDS, 40))
    command = ["espeak-ng", "-v", VOICES[number % 7], "-s", str(130 + 10 * (number % 6)), "--stdout", text]
    wave, rate = soundfile.read(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    return resample(wave, rate, RATE)[: RATE * SECONDS]


def measure_sounds(reference: MusicReference, corpus: Corpus, rows: Sequence[Row]) -> dict[str, float]:
    """Return the area under the ROC curve of music against each sound, and how often music is flagged by level."""
    clips = sorted({row.clip_id for row in rows if row.clip_id in corpus.audio})
    music = [corpus.audio[clip].load(RATE, SECONDS)[0] for clip in clips]
    far = {name: score_sounds(reference, waves) for name, waves in make_sounds(np.random.default_rng(0)).items()}
    near = score_sounds(reference, music)
    flagged = {
        f"flagged at {decibel:+d} dB": float(
            (score_sounds(reference, [10 ** (decibel / 20) * wave for wave in music]) > reference.limit).mean()
        )
        for decibel in (-20, 0, 20)
    }
    found = {f"{name} flagged": float((far[name] > reference.limit).mean()) for name in far}
    return {**{f"auc {name}": area_under_roc(far[name], near) for name in far}, **found, **flagged}


def score_sounds(reference: MusicReference, waves: Sequence[np.ndarray]) -> np.ndarray:
    described = [describe_sound(measure_bands(torch.from_numpy(np.asarray(one, np.float32)), RATE)) for one in waves]
    return np.array([reference.score(one) for one in described])


def area_under_roc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return how often a positive lies above a negative."""
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def measure_time(
    model: PreTrainedModel, processor: ProcessorMixin, config: MusicDecisionConfig, features: torch.Tensor,
    runs: int = 7,
) -> dict[str, float]:  # fmt: skip
    """Time 20 typed questions of six options about one window, and 20 generated answers with 5 beams, in turns."""
    types = [kind for kind in config.types().values() if len(kind.answers) >= 6] or list(config.types().values())
    asked = [types[number % len(types)] for number in range(20)]
    questions = [kind.questions[number % len(kind.questions)] for number, kind in enumerate(asked)]
    trees = [build_type_tree(kind, processor, options=6, hidden=config.hidden) for kind in asked]
    prompts = [processor.prompt_ids(question) for question in questions]
    wordings = {1: [[prompt] for prompt in prompts], config.wordings: [
        [processor.prompt_ids(text) for text in kind.questions[: config.wordings]] for kind in asked
    ]}  # fmt: skip
    pairs = [("window", features, prompt) for prompt in prompts]
    seconds: dict[str, list[float]] = {"generated": [], **{f"{count} wordings": [] for count in wordings}}
    for _ in range(runs):
        seconds["generated"].append(timed(lambda: list(model.answer_many(iter(pairs), batch_size=20, num_beams=5))))
        for count, texts in wordings.items():
            seconds[f"{count} wordings"].append(
                timed(lambda texts=texts: model.score_options(features[None], texts, trees))
            )
    result = {name: median(values) for name, values in seconds.items()}
    ratios = {
        f"{name} / generated": median(mine / theirs for mine, theirs in zip(values, seconds["generated"], strict=True))
        for name, values in seconds.items() if name != "generated"
    }  # fmt: skip
    return {**result, **ratios}


def measure_base(processor: ProcessorMixin, config: MusicDecisionConfig, runs: int = 5) -> dict[str, float]:
    """Time 20 typed questions and one generated answer of 12 tokens with random weights of bart-base's size."""
    torch.manual_seed(0)
    model = LPMusicCapsForConditionalGeneration(LPMusicCapsConfig()).eval()
    types = [kind for kind in config.types().values() if len(kind.answers) >= 6]
    asked = [types[number % len(types)] for number in range(20)]
    prompts = [processor.prompt_ids(kind.questions[number % len(kind.questions)]) for number, kind in enumerate(asked)]
    trees = [build_tree([processor.answer_ids(texts) for texts in list(kind.answers.values())[:6]]) for kind in asked]
    window = torch.randn(128, 1001)
    settings = {"num_beams": 5, "max_length": 12, "min_length": 12}  # random weights would end anywhere
    generated, typed = [], []
    for _ in range(runs):
        pairs = iter([("window", window, prompts[0])])
        generated.append(timed(lambda pairs=pairs: list(model.answer_many(pairs, batch_size=1, **settings))))
        typed.append(timed(lambda: model.score_options(window[None], [[one] for one in prompts], trees)))
    ratio = median(mine / theirs for mine, theirs in zip(typed, generated, strict=True))
    return {"one generated": median(generated), "20 typed": median(typed), "typed / generated": ratio}


def timed(run: object) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def bench(
    folder: Path, corpus: Corpus, features: str, parts: Sequence[str], gains: list[Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    """Measure one model; what typed answers gain by clip is put at the end of `gains`."""
    model, processor = load_model(find_model(str(folder)))
    store = prepare_features(corpus, model.cached_features(processor.feature_extractor), features)
    config = model.decision_config or save_decisions(folder, corpus.configs.values(), store, corpus.audio)
    test = list(dict.fromkeys(row for splits in corpus.configs.values() for row in splits["test"]))
    found: dict[str, Mapping[str, float]] = {}
    if "accuracy" in parts:
        found["accuracy"], by_clip = measure_accuracy(model, processor, config, test, store)
        gains.append(by_clip)
    if "sounds" in parts:
        found["sounds"] = measure_sounds(MusicReference(**config.reference), corpus, test)
    if "time" in parts:
        found["time"] = measure_time(model, processor, config, torch.from_numpy(store.read(test[0].clip_id)))
    if "base" in parts:
        found["base"] = measure_base(processor, config)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object a model, and the means over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, type=Path, help="model folders")
    parser.add_argument("--features", default="features", help="folder of the feature store")
    parser.add_argument("--parts", nargs="+", default=["accuracy", "sounds", "time"])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    corpus = load_corpus("demo", ["short"])
    gains: list[Mapping[str, float]] = []
    results = {str(folder): bench(folder, corpus, args.features, args.parts, gains) for folder in args.models}
    for folder, found in results.items():
        print(json.dumps({"model": folder, **found}))
    for part in args.parts:
        names = next(iter(results.values()))[part]
        print(part, json.dumps({name: round(mean(one[part][name] for one in results.values()), 4) for name in names}))
    if gains:
        print("gain, 95 % by clip: {:+.4f} to {:+.4f}".format(*paired_interval(gains)))


if __name__ == "__main__":
    main()

"""What is said about a whole track out of its windows: which ones music is heard in, and one answer to each question.

Typed questions are decided by `TrackDecider`, which leaves out windows that are silent or sound like noise, tones or
speech. Of answers in words (`answer_track`), those that are equal after normalisation are one vote; a window's weight
is its confidence, the exponential of the length-normalised log-probability. A caption states what the captions of
windows claim more than once. This file lies in the folder of every question-answering model, byte for byte the same.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, pairwise
from typing import Any

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks
from transformers import PreTrainedModel, ProcessorMixin

from .decision_music import (
    DENIAL,
    MusicDecisionConfig,
    PlannedQuestion,
    answer_question,
    decide_options,
    fill_window,
    option_texts,
    plain_words,
    prepare_windows,
)
from .sound_file import SILENCE_RMS, measure_level
from .sound_input import Span
from .terms import CATEGORIES, agrees, normalise, read_claims, read_terms

FRAME_S, BANDS, TOP_HZ, RANGE_DB = 0.032, 32, 8000.0, 40.0  # of the description of a sound
LEAST_FRAMES, LAGS, SPEEDS_HZ, SOFT_DB = 312, (1, 2, 4, 8, 16, 32, 64), (0.2, 1.5, 4.0, 8.0), -15.0
WIDTH = 0.1  # of radial basis functions: what the mean squared distance is multiplied by
WINDOWS_AT_ONCE = 16
ABOUT_MUSIC = "music"  # the type of question that a model trained on sounds without music answers of each window first
IS_MUSIC = {"type": "noul", "instructions": "Is there music?"}
VOCALS, NO_VOCALS = "vocals", "no vocals"  # terms
SILENCE, NO_MUSIC = "silence", "no music"  # why nothing is answered about a track

RECURRING = 0.25  # of the windows, and two at least, that must claim what the track's caption states
SHOWN_TERMS = 5  # of a category, in a caption
NOT_SURE = "I am not sure."  # what a long answer says that has no claims left

# A whole window as `Span` has it, and what `model.cached_features` makes of it.
EncodedSpan = tuple[float, float, np.ndarray, torch.Tensor]


@dataclass
class MusicReference:
    """Tells music from noise, tones and speech: radial basis functions over descriptions of sounds, fitted on both.

    mean, spread: of the descriptions that it was fitted on, (features,), by which others are standardised. centres:
    (centres, features), of music, of varied music and of other sounds. weights: (centres,), below 0 for music. limit:
    the score above which a sound is no music.
    """

    mean: list[float]
    spread: list[float]
    centres: list[list[float]]
    weights: list[float]
    limit: float

    def score(self, description: np.ndarray) -> float:
        """Return how unlike music a description (features,) is: about −1 for music, about 1 for other sounds."""
        place = (description - np.array(self.mean)) / np.array(self.spread)
        return float(measure_nearness(place[None], np.array(self.centres))[0] @ np.array(self.weights))

    def is_music(self, waveform: torch.Tensor, sampling_rate: int) -> bool:
        """Return whether a mono waveform (samples,) sounds like music."""
        return self.score(describe_sound(measure_bands(waveform, sampling_rate))) <= self.limit


def measure_nearness(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return how near standardised descriptions (places, features) are to centres: 1 at a centre, 0 far from it."""
    squares = np.square(places).mean(axis=1)[:, None] + np.square(centres).mean(axis=1)
    return np.exp(-WIDTH * (squares - 2 * places @ centres.T / places.shape[1]))


def measure_bands(waveform: torch.Tensor, sampling_rate: int) -> np.ndarray:
    """Return the power of a mono waveform (samples,) in 32 mel bands up to 8 kHz, (bands, frames), each 32 ms.

    A short one is repeated until it fills 10 s.
    """
    hop = round(FRAME_S * sampling_rate)
    window, top_hz = torch.hann_window(2 * hop), min(sampling_rate / 2, TOP_HZ)
    power = torch.stft(waveform.float(), 2 * hop, hop, window=window, return_complex=True).abs().square()
    bands = (melscale_fbanks(hop + 1, 0.0, top_hz, BANDS, sampling_rate).T @ power).numpy()
    return np.tile(bands, -(-LEAST_FRAMES // bands.shape[1]))[:, : max(LEAST_FRAMES, bands.shape[1])]


def describe_sound(bands: np.ndarray) -> np.ndarray:
    """Describe the power in mel bands (bands, frames) of a sound by 91 numbers, relative to its own level.

    Mean and spread over time of the level in each band, of at most 40 dB; spread of the whole level and how often it
    is low; how fast levels rise and fall; how alike spectra are up to 2 s apart; how regular its beginnings are. So
    the same sound louder or softer has the same description.
    """
    relative = bands / max(float(bands.mean()), 1e-20)
    floor = 10 ** (-RANGE_DB / 10)
    levels, level = (10 * np.log10(np.maximum(one, floor)) for one in (relative, relative.mean(axis=0)))
    groups = [level, *levels.reshape(4, -1, levels.shape[1]).mean(axis=1)]
    return np.concatenate([
        levels.mean(axis=1), levels.std(axis=1), [level.std(), np.mean(level < -10), np.mean(level < -20)],
        *map(share_speeds, groups), compare_frames(levels, level), measure_rhythm(levels),
    ])  # fmt: skip


def share_speeds(levels: np.ndarray) -> np.ndarray:
    """Return the shares of a level's (frames,) changes at 0.2 to 1.5 Hz, 1.5 to 4 Hz and 4 to 8 Hz."""
    power = np.abs(np.fft.rfft((levels - levels.mean()) * np.hanning(len(levels)))) ** 2
    hertz = np.fft.rfftfreq(len(levels), FRAME_S)
    parts = [power[(hertz > low) & (hertz <= high)].sum() for low, high in pairwise(SPEEDS_HZ)]
    return np.array(parts) / (power[hertz > SPEEDS_HZ[0]].sum() + 1e-9)


def compare_frames(levels: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Return the mean cosine of spectra (bands, frames) that lie 1, 2, 4 … 64 frames apart, the soft ones left out."""
    shapes = levels - levels.mean(axis=0)
    shapes = shapes / np.maximum(np.linalg.norm(shapes, axis=0), 1e-9)
    alike = []
    for lag in LAGS:
        loud = (level[lag:] > SOFT_DB) & (level[:-lag] > SOFT_DB)
        alike.append((shapes[:, lag:] * shapes[:, :-lag]).sum(axis=0)[loud].mean() if loud.any() else 1.0)
    return np.array(alike)


def measure_rhythm(levels: np.ndarray) -> np.ndarray:
    """Return how strongly the beginnings of sounds in levels (bands, frames) return after 0.26 to 2 s."""
    onsets = np.maximum(np.diff(levels, axis=1), 0).mean(axis=0)
    spectrum = np.abs(np.fft.rfft(onsets - onsets.mean(), 2 * len(onsets))) ** 2
    returns = np.fft.irfft(spectrum)
    strongest = np.sort(returns[8:64] / max(returns[0], 1e-9))[-5:]
    return np.array([strongest[-1], strongest.mean()])


class TrackDecider:
    """Answers the same typed questions about one track after another."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        questions: Mapping[str, Any],
        config: MusicDecisionConfig | None = None,
    ) -> None:
        """
        questions: System One's, by name; ValueError for one that is none.
        config: in place of the model's own; ValueError where there is neither.
        """
        found = config or model.decision_config
        if found is None or not found.question_types:
            raise ValueError(
                f"{model.name_or_path} has no decision.json with question types that was fitted for its weights: a "
                "recipe with validation rows fits it"
            )
        self.model, self.processor, self.config = model, processor, found
        self.planned = found.plan(questions)
        self.answerable = [one for one in self.planned if one.type is not None]
        self.gate = found.plan({ABOUT_MUSIC: IS_MUSIC}) if ABOUT_MUSIC in found.question_types else []
        self.prepared = found.prepare_questions([*self.answerable, *self.gate], processor)
        self.heard: list[tuple[float, float]] = []  # the windows of the last track in which there was music
        self.scores: list[torch.Tensor] = []  # log-probabilities (heard, options) of each question that is answerable
        self.reference = None if found.reference is None else MusicReference(**found.reference)

    def decide(self, windows: Iterable[Span | EncodedSpan]) -> dict[str, dict[str, Any]]:
        """Answer all questions about the windows of one track, which are read in groups of 16; none: it is silent.

        What comes encoded is not encoded again.

        Returns System One's answers with `sure`, `heard` ([[start_s, end_s], …]: what they rest on), `reason` where
        nothing is answered, `unknown` (options that the training did not have, with which nothing is sure), and
        `contradicts` (names of questions) where two answers cannot both be true.
        """
        reasons: set[str] = set()
        scores: list[list[torch.Tensor]] = [[] for _ in self.answerable]
        audible = self._keep_music(windows, reasons)
        self.heard, self.scores, heard_any = [], [], False
        while group := list(islice(audible, WINDOWS_AT_ONCE)):
            heard_any = True
            found = self._score(group)
            kept = self._find_music(found, len(group))
            self.heard += [group[number][:2] for number in kept]
            for rows, one in zip(scores, found, strict=False):  # behind them is the question whether there is music
                rows.append(one[kept])
        if not self.heard:
            silent = reasons <= {SILENCE} and not heard_any
            return {one.name: leave_open(one, SILENCE if silent else NO_MUSIC) for one in self.planned}
        self.scores = [torch.cat(rows) for rows in scores]
        pairs = zip(self.answerable, self.scores, strict=True)
        decided = {one.name: decide_options(one, rows) for one, rows in pairs}
        heard = join_spans(self.heard)
        answers = {
            one.name: answer_question(one, decided.get(one.name)) | {"heard": heard} | name_unknown(one)
            for one in self.planned
        }
        mark_contradictions(answers, {one.name: one for one in self.planned})
        return answers

    def _find_music(self, scores: list[torch.Tensor], windows: int) -> list[int]:
        """Return the numbers of the windows in which the model hears music; all where it was not trained on that."""
        if not self.gate:
            return list(range(windows))
        (planned,) = self.gate
        yes = planned.question.options.index("true")
        likely = (scores[-1] / planned.temperature).log_softmax(dim=1)[:, yes].exp()
        return [number for number in range(windows) if likely[number] >= 0.5]

    def was_heard(self, start_s: float) -> bool:
        """Return whether the window of the last track that begins there counted as music."""
        return any(start_s == start for start, _ in self.heard)

    def find_reason(self, samples: np.ndarray) -> str | None:
        """Return why no music is heard in a window; None where it is."""
        if measure_level(samples) < SILENCE_RMS:
            return SILENCE
        rate = self.processor.feature_extractor.sampling_rate
        if self.reference is None or self.reference.is_music(torch.from_numpy(np.asarray(samples)), rate):
            return None
        return NO_MUSIC

    def _keep_music(
        self, windows: Iterable[Span | EncodedSpan], reasons: set[str]
    ) -> Iterator[Span | EncodedSpan]:
        for window in windows:
            reason = self.find_reason(window[2])
            if reason is None:
                yield window
            else:
                reasons.add(reason)

    def _score(self, windows: list[Span | EncodedSpan]) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question that can be answered."""
        if not self.answerable and not self.gate:
            return []
        return self.model.score_options(self._make_features(windows), **self.prepared)

    def _make_features(self, windows: list[Span | EncodedSpan]) -> torch.Tensor:
        """Return what the model scores, in which short windows are repeated: they are never encoded before."""
        if all(len(window) == 3 for window in windows):
            return prepare_windows([window[2] for window in windows], self.processor)
        front_end = self.model.cached_features(self.processor.feature_extractor)
        return torch.stack([
            window[3] if len(window) == 4 else torch.as_tensor(front_end.extract(fill_window(window[2], front_end)))
            for window in windows
        ])


def name_unknown(planned: PlannedQuestion) -> dict[str, list[str]]:
    """Return the field `unknown` of an answer: options that its type does not know; no field where it knows all."""
    if planned.type is None or planned.known:
        return {}
    return {"unknown": [one for one in option_texts(planned.question) if planned.type.find_option(one) is None]}


def leave_open(planned: PlannedQuestion, reason: str) -> dict[str, Any]:
    """Return the answer to a question about nothing: all options alike, nothing sure, and why."""
    return answer_question(planned, None) | {"reason": reason, "heard": []}


def join_spans(spans: Iterable[tuple[float, float]]) -> list[list[float]]:
    """Join spans (start_s, end_s) that touch, so that what was heard reads as few pieces."""
    joined: list[list[float]] = []
    for start_s, end_s in sorted(spans):
        if joined and start_s <= joined[-1][1] + 0.01:
            joined[-1][1] = max(joined[-1][1], end_s)
        else:
            joined.append([start_s, end_s])
    return [[round(start_s, 3), round(end_s, 3)] for start_s, end_s in joined]


def mark_contradictions(answers: dict[str, dict[str, Any]], planned: Mapping[str, PlannedQuestion]) -> None:
    """Name the answers that cannot both be true ("no drums", "drums lead"); the less likely one is not sure."""
    chosen = {name: choose(answer, planned[name]) for name, answer in answers.items()}
    voices = {name: read_claims(option or "")["voices"] for name, (option, _) in chosen.items()}
    for name, (option, probability) in chosen.items():
        absent = DENIAL.sub(" ", option).strip() if option and DENIAL.search(option) else None
        for other, (stated, likelihood) in chosen.items():
            is_denied = bool(absent and stated and not DENIAL.search(stated) and mentions(stated, absent))
            if is_denied or (NO_VOCALS in voices[name] and VOCALS in voices[other]):
                answers[name]["contradicts"] = sorted({*answers[name].get("contradicts", ()), other})
                answers[other]["contradicts"] = sorted({*answers[other].get("contradicts", ()), name})
                answers[name if probability < likelihood else other]["sure"] = False


def mentions(text: str, words: str) -> bool:
    """Return whether a text holds some words, in any case, one after another."""
    return bool(re.search(rf"\b{re.escape(plain_words(words))}\b", plain_words(text)))


def choose(answer: Mapping[str, Any], planned: PlannedQuestion) -> tuple[str | None, float]:
    """Return the option that an answer states, in words, and its probability."""
    text, probability = state(answer)
    if answer["type"] != "noul":
        return text, probability
    if planned.type is None:
        return None, probability
    sentences = planned.sentences[planned.question.options.index("true" if answer["noul"] >= 0.5 else "false")]
    options = [option for option, texts in planned.type.answers.items() if texts and texts[0] in sentences]
    return (options[0] if len(options) == 1 else None), probability


def state(answer: Mapping[str, Any]) -> tuple[str, float]:
    """Return what an answer says, as a person would say it, and its probability."""
    if answer["type"] == "noul":
        return ("yes", answer["noul"]) if answer["noul"] >= 0.5 else ("no", 1 - answer["noul"])
    best = max(answer["probabilities"], key=answer["probabilities"].__getitem__)
    return str(answer["legend"][best] if answer["type"] == "score" else best), answer["probabilities"][best]


@dataclass(frozen=True)
class WindowAnswer:
    """What was answered about one window: its seconds, the prediction, its length-normalised log-probability."""

    start_s: float
    end_s: float
    prediction: str
    score: float | None = None

    @property
    def weight(self) -> float:
        """Return the confidence, between 0 and 1."""
        return 1.0 if self.score is None else math.exp(min(self.score, 0.0))


@dataclass(frozen=True)
class PooledAnswer:
    """The answer about a track that its windows give.

    windows: how many of them say so, `of` how many. heard: their seconds, [[start_s, end_s], …]. confidence: their
    share of the weights of all windows. others: the other predictions and how many windows gave each. score: the
    length-normalised log-probability of the surest window that says so; None for what no window says by itself.
    """

    prediction: str
    windows: int
    of: int
    heard: list[list[float]]
    confidence: float
    others: dict[str, int] = field(default_factory=dict)
    score: float | None = None


def answer_track(question: str | None, windows: Sequence[WindowAnswer]) -> PooledAnswer:
    """Return one answer for a track from those about its windows, of which there is at least one.

    question: None asks for a caption. A window about which nothing is sure has no vote on a long answer.
    """
    said = [window for window in windows if window.prediction != NOT_SURE]
    if question is None or any(". " in window.prediction for window in said):
        windows = said or windows
    if question is None and len(windows) > 1:
        caption = write_caption([window.prediction for window in windows])
        if caption:
            heard = join_spans((window.start_s, window.end_s) for window in windows)
            return PooledAnswer(caption, len(windows), len(windows), heard, 1.0)
    votes: defaultdict[str, list[WindowAnswer]] = defaultdict(list)
    for window in windows:
        votes[normalise(window.prediction)].append(window)
    ordered = sorted(votes.values(), key=lambda group: -sum(window.weight for window in group))
    weights = [sum(window.weight for window in group) for group in ordered]
    surest = max(ordered[0], key=lambda window: window.weight)
    return PooledAnswer(
        prediction=surest.prediction,
        windows=len(ordered[0]),
        of=len(windows),
        heard=join_spans((window.start_s, window.end_s) for window in ordered[0]),
        confidence=weights[0] / sum(weights),
        others={group[0].prediction: len(group) for group in ordered[1:]},
        score=surest.score,
    )


def write_caption(captions: Sequence[str]) -> str:
    """Write what the captions of a track's windows claim more than once, the commonest first; "" for nothing.

    Genres and tempi that exclude each other, and instruments that some windows deny, are named with their windows: of
    those it is not said that they are heard.
    """
    read = [read_categories(caption) for caption in captions]
    named = {name: Counter(term for one in read for term in one[name][0]) for name in CATEGORIES}
    denied = Counter(term for one in read for term in one["instruments"][1])
    least = max(2, math.ceil(RECURRING * len(captions)))
    kept = {name: [term for term, count in ranked(named[name]) if count >= least] for name in CATEGORIES}
    sentences = [
        *state_genre(kept["genres"], named["genres"], len(captions)),
        *state_list([term for term in kept["instruments"] if not denied[term]][:SHOWN_TERMS], "is heard", "are heard"),
        *state_list(kept["moods"][:SHOWN_TERMS], prefix="The mood is "),
        *state_tempo(kept["tempi"], named["tempi"], len(captions)),
        *(
            state_disagreement(term, named["instruments"][term], count, len(captions))
            for term, count in ranked(denied)
            if named["instruments"][term]
        ),
    ]
    return " ".join(sentences)


def state_disagreement(term: str, named: int, denied: int, windows: int) -> str:
    """State how many windows name an instrument and how many deny it."""
    them = "them" if is_plural(term) else "it"
    name, deny = "name" if named > 1 else "names", "deny" if denied > 1 else "denies"
    return f"Windows disagree about {term}: {named} of {windows} {name} {them}, {denied} {deny} {them}."


def is_plural(words: str) -> bool:
    """Return whether a noun is a plural: vocals, but no bass."""
    return words.endswith("s") and not words.endswith("ss")


def read_categories(caption: str) -> dict[str, tuple[set[str], set[str]]]:
    """Return what a caption names and denies, by category."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name, kinds in CATEGORIES.items():
        read = [read_terms(caption, kind) for kind in kinds]
        found[name] = set().union(*(one[0] for one in read)), set().union(*(one[1] for one in read))
    return found


def ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return terms and their counts, the commonest first, equal ones by name."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def state_genre(genres: Sequence[str], counts: Mapping[str, int], windows: int) -> Iterator[str]:
    """State the commonest genre with those that are kinds of it, and name the ones that are not."""
    if genres:
        same = [genre for genre in genres if is_kind(genre, genres[0])]
        others = [genre for genre in genres if genre not in same]
        yield f"It is {max(same, key=len)} music{list_others(others, counts, windows)}."


def is_kind(genre: str, other: str) -> bool:
    """Return whether all words of one genre are among those of the other: "waltz", "country" and "country waltz"."""
    words, others = set(genre.split()), set(other.split())
    return words <= others or others <= words


def state_tempo(tempi: Sequence[str], counts: Mapping[str, int], windows: int) -> Iterator[str]:
    """State the commonest tempo, and name the others."""
    if tempi:
        yield f"The tempo is {tempi[0]}{list_others(tempi[1:], counts, windows)}."


def list_others(terms: Sequence[str], counts: Mapping[str, int], windows: int) -> str:
    """Return `, but slow in 3 of 7 windows` for terms that exclude what was stated."""
    return f", but {join_words([f'{term} in {counts[term]} of {windows} windows' for term in terms])}" if terms else ""


def state_list(terms: Sequence[str], one: str = "", many: str = "", prefix: str = "") -> Iterator[str]:
    """State a list of terms, less those that another one names a kind of."""
    plain = {term for pair in combinations(terms, 2) for term in pair if agrees(*pair) and term == min(pair, key=len)}
    listed = [term for term in terms if term not in plain]
    if listed and prefix:
        yield f"{prefix}{join_words(listed)}."
    elif listed:
        words = join_words(listed)
        yield f"{words[:1].upper()}{words[1:]} {many if len(listed) > 1 or is_plural(words) else one}."


def join_words(words: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


__all__ = [
    "MusicReference", "PooledAnswer", "TrackDecider", "WindowAnswer", "answer_track", "describe_sound",
    "join_spans", "mark_contradictions", "measure_bands", "measure_nearness", "write_caption",
]  # fmt: skip

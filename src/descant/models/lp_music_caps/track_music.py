"""What is decided about a whole track: which windows music is heard in, and one answer to each question from them.

Silent windows, and windows that do not sound like the training music, are left out. This file lies in the folder of
every question-answering model, byte for byte the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torchaudio.functional import melscale_fbanks
from transformers import PreTrainedModel, ProcessorMixin

from .decision_music import DENIAL, MusicDecisionConfig, PlannedQuestion, answer_question, decide_options, normalise
from .sound_file import SILENCE_RMS, measure_level

FRAME, BANDS, RANGE_DB = 1024, 32, 40.0  # of the description of a sound
WINDOWS_AT_ONCE = 16
LEAST_LAST_S = 5.0  # a last window that is shorter is heard as the last 10 s of its track
SILENCE, NO_MUSIC = "silence", "no music"  # why nothing is answered about a track

Span = tuple[float, float, np.ndarray]  # start and end of a window in seconds, its mono samples (samples,)


@dataclass
class MusicReference:
    """Centres of what training clips sound like, and how far from the nearest one music may lie.

    A sound is described by the mean and the spread over time of its levels in mel bands, relative to its own level: so
    the same sound louder or softer lies at the same place. mean, spread: those of the training clips' descriptions,
    (2 × bands,); centres: (centres, 2 × bands), of descriptions standardised by them. limit: the largest distance.
    """

    mean: list[float]
    spread: list[float]
    centres: list[list[float]]
    limit: float

    def distance(self, description: torch.Tensor) -> float:
        """Return the root mean square distance of a description (2 × bands,) to the nearest centre."""
        place = (description - torch.tensor(self.mean)) / torch.tensor(self.spread)
        return float((torch.tensor(self.centres) - place).square().mean(dim=1).min().sqrt())

    def is_music(self, waveform: torch.Tensor, sampling_rate: int) -> bool:
        """Return whether a mono waveform (samples,) sounds like the training clips."""
        return self.distance(describe_sound(waveform, sampling_rate)) <= self.limit


def describe_sound(waveform: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """Describe a mono waveform (samples,) by means and standard deviations over time of its levels in 32 mel bands.

    Levels are in dB below the waveform's own level, at most 40: softer parts do not count, nor does the gain.
    """
    window = torch.hann_window(FRAME)
    power = torch.stft(waveform.float(), FRAME, FRAME // 2, window=window, return_complex=True).abs().square()
    filters = melscale_fbanks(FRAME // 2 + 1, 0.0, sampling_rate / 2, BANDS, sampling_rate)
    mel = filters.T @ power  # (bands, frames)
    levels = 10 * (mel / mel.mean().clamp(min=1e-20)).clamp(min=10 ** (-RANGE_DB / 10)).log10()
    return torch.cat([levels.mean(dim=1), levels.std(dim=1)])


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
                f"{model.name_or_path} has no decision.json with question types: a recipe with validation rows fits it"
            )
        self.model, self.processor, self.config = model, processor, found
        self.planned = found.plan(questions)
        self.answerable = [one for one in self.planned if one.type is not None]
        self.prepared = found.prepare_questions(self.answerable, processor)
        self.reference = None if found.reference is None else MusicReference(**found.reference)

    def decide(self, windows: Iterable[Span]) -> dict[str, dict[str, Any]]:
        """Answer all questions about the windows of one track, which are read in groups of 16; none: it is silent.

        Returns System One's answers with `sure`, `heard` ([[start_s, end_s], …]: what they rest on), `reason` where
        nothing is answered, and `contradicts` (names of questions) where two answers cannot both be true.
        """
        reasons: set[str] = set()
        spans: list[tuple[float, float]] = []
        scores: list[list[torch.Tensor]] = [[] for _ in self.answerable]
        music = self._keep_music(windows, reasons)
        while group := list(islice(music, WINDOWS_AT_ONCE)):
            spans += [(start_s, end_s) for start_s, end_s, _ in group]
            for rows, found in zip(scores, self._score([samples for _, _, samples in group]), strict=True):
                rows.append(found)
        if not spans:
            return {one.name: leave_open(one, SILENCE if reasons <= {SILENCE} else NO_MUSIC) for one in self.planned}
        pairs = zip(self.answerable, scores, strict=True)
        decided = {one.name: decide_options(one, torch.cat(rows)) for one, rows in pairs}
        heard = join_spans(spans)
        answers = {one.name: answer_question(one, decided.get(one.name)) | {"heard": heard} for one in self.planned}
        mark_contradictions(answers, {one.name: one for one in self.planned})
        return answers

    def find_reason(self, samples: np.ndarray) -> str | None:
        """Return why no music is heard in a window; None where it is."""
        if measure_level(samples) < SILENCE_RMS:
            return SILENCE
        rate = self.processor.feature_extractor.sampling_rate
        if self.reference is None or self.reference.is_music(torch.from_numpy(np.asarray(samples)), rate):
            return None
        return NO_MUSIC

    def _keep_music(self, windows: Iterable[Span], reasons: set[str]) -> Iterator[Span]:
        for window in windows:
            reason = self.find_reason(window[2])
            if reason is None:
                yield window
            else:
                reasons.add(reason)

    def _score(self, waveforms: list[np.ndarray]) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question that can be answered."""
        if not self.answerable:
            return []
        rate = self.processor.feature_extractor.sampling_rate
        features = self.processor(audio=waveforms, sampling_rate=rate, return_tensors="pt")["input_features"]
        return self.model.score_options(features, **self.prepared)


def leave_open(planned: PlannedQuestion, reason: str) -> dict[str, Any]:
    """Return the answer to a question about nothing: all options alike, nothing sure, and why."""
    return answer_question(planned, None) | {"reason": reason, "heard": []}


def spread_evenly(total: int, count: int | None) -> list[int]:
    """Return the numbers of at most `count` windows of `total`, spread evenly; all for None."""
    if count is None or total <= count:
        return list(range(total))
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]


def cut_track(waveform: np.ndarray, sampling_rate: int, window_s: float, count: int | None = 12) -> list[Span]:
    """Cut a track's mono waveform (samples,) into at most `count` windows, spread evenly; into all for None.

    In place of a last window under 5 s, the last `window_s` of the track are taken.
    """
    size, total = round(window_s * sampling_rate), len(waveform)
    starts = list(range(0, max(total, 1), size))
    if len(starts) > 1 and total - starts[-1] < LEAST_LAST_S * sampling_rate:
        starts[-1] = total - size
    pieces = [(starts[number], waveform[starts[number] : starts[number] + size])
              for number in spread_evenly(len(starts), count)]  # fmt: skip
    return [(start / sampling_rate, (start + len(piece)) / sampling_rate, piece) for start, piece in pieces]


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
    for name, (option, probability) in chosen.items():
        absent = DENIAL.sub(" ", option).strip() if option and DENIAL.search(option) else None
        for other, (stated, likelihood) in chosen.items():
            if absent and other != name and stated and not DENIAL.search(stated) and mentions(stated, absent):
                answers[name]["contradicts"] = sorted({*answers[name].get("contradicts", ()), other})
                answers[other]["contradicts"] = sorted({*answers[other].get("contradicts", ()), name})
                answers[name if probability < likelihood else other]["sure"] = False


def mentions(text: str, words: str) -> bool:
    """Return whether a text holds some words, in any case, one after another."""
    return bool(re.search(rf"\b{re.escape(normalise(words))}\b", normalise(text)))


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


__all__ = [
    "MusicReference", "TrackDecider", "cut_track", "describe_sound", "join_spans", "mark_contradictions",
]  # fmt: skip

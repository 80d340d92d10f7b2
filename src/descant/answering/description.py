"""Describes whole tracks: a fixed set of typed questions, a caption, and what signal processing measures.

Signal processing knows tempo, key, loudness and silence better than a language model (extra `[measure]`).
"""

import json
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.answers import (
    WINDOWS_HEARD,
    Answer,
    as_span,
    describe_answer,
    hear_track,
    name_contradictions,
    pool_track,
)
from descant.data.audio import AudioError, Window, stream_audio
from descant.data.sound_file import LEAST_S
from descant.data.storage import Source, name_source
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig
from descant.models.lp_music_caps.terms import agrees, find_terms, read_claims
from descant.models.lp_music_caps.track_music import TrackDecider, is_kind, read_categories, state

INSTRUMENTS = (
    "piano", "organ", "acoustic guitar", "electric guitar", "bass", "drums", "violin", "strings", "brass", "trumpet",
    "saxophone", "flute", "accordion", "synthesizer",
)  # fmt: skip
# What is asked of every model, with the options of its training where it has such a type, else these.
CHOICES = {
    "genre": ("What is the genre?", ("classical", "electronic", "folk", "hip-hop", "jazz", "metal", "pop", "rock")),
    "mood": ("What is the mood?", ("happy", "sad", "calm", "tense")),
    "tempo_class": ("How fast is it?", ("slow", "medium", "fast")),
    "metre": ("What is the metre?", ("3/4", "4/4")),
    "voice": ("Whose voice is it?", ("female", "male")),
    "electronic": ("Is the sound electronic or acoustic?", ("electronic", "acoustic")),
}
ENERGY = {"type": "score", "instructions": "How energetic is it?", "criteria": ["calm", "moderate", "driving"]}
VOCALS = {"type": "noul", "instructions": "Is there a singer?"}
VOICES = ("voice", "vocals")  # decisions about singing
EXCLUSIVE = {"genre": "genres", "tempo_class": "tempi"}  # decisions of which a caption can name another option
TOP = 3  # genres that are named
RATE = 22_050  # Hz
MEASURED_S = 600  # at most, from a track's beginning
PIECE_S = 60  # measured at a time: spectra of ten minutes are hundreds of MB
GATE_LUFS, GATE_LU = -70.0, 10.0  # pieces that are softer, or so much softer than the others, do not count
FRAME_S, SILENCE_DBFS = 0.05, -60.0
NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
# How well each pitch class fits a key, from listeners' judgements (Krumhansl and Kessler 1982), tonic first.
PROFILES = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


@cache
def read_schema() -> dict[str, Any]:
    """Return the JSON Schema of a description."""
    return json.loads(files("descant.answering").joinpath("description.schema.json").read_text(encoding="utf-8"))


def description_questions(config: MusicDecisionConfig | None) -> dict[str, dict[str, Any]]:
    """Return the questions of a description, by name; those about instruments are named `instruments.NAME`."""
    types = {} if config is None else config.types()
    questions: dict[str, dict[str, Any]] = {}
    for name, (asked, options) in CHOICES.items():
        kind = types.get(name)
        instructions = kind.questions[0] if kind else asked
        criteria = dict.fromkeys(kind.answers if kind else options)
        questions[name] = {"type": "choice", "instructions": instructions, "criteria": criteria}
    questions |= {"energy": dict(ENERGY), "vocals": dict(VOCALS)}
    for name in INSTRUMENTS:
        asked = f"Are there {name}?" if name.endswith("s") and name != "bass" else f"Is there {article(name)} {name}?"
        questions[f"instruments.{name}"] = {"type": "noul", "instructions": asked}
    return questions


def article(name: str) -> str:
    """Return the article of a noun."""
    return "an" if name[:1] in "aeiou" else "a"


class Answering(Protocol):
    """A `Listener`, as far as it is used here."""

    model: PreTrainedModel
    processor: ProcessorMixin
    name: str

    def encode(self, windows: Collection[Window]) -> Collection[Window]:
        """Return windows that are encoded once, however often they are asked about."""

    def extract_features(self, window: Window) -> torch.Tensor:
        """Return the features of a window's samples."""

    def answer_windows(
        self, audio: Source, windows: Sequence[Window], questions: Sequence[str | None]
    ) -> Sequence[Answer]:
        """Answer questions about windows that are at hand, in the order of windows and questions."""


class Describer:
    """Describes one sound file after another with the same model."""

    def __init__(self, listener: Answering, hear: int | None = WINDOWS_HEARD, states: bool = False) -> None:
        """
        hear: how many windows of a track are heard at most; None: all. states: add the model's mean audio state.

        Raises ValueError for a model without decision.json.
        """
        self.listener, self.hear, self.states = listener, hear, states
        self.questions = description_questions(listener.model.decision_config)
        self.decider = TrackDecider(listener.model, listener.processor, self.questions)

    def describe(self, path: Source) -> dict[str, Any]:
        """Return the description of a track, see `read_schema`; raises AudioError where it cannot be read."""
        extractor = self.listener.processor.feature_extractor
        track = hear_track(path, self.hear, extractor.sampling_rate, extractor.window_s)
        windows = self.listener.encode(track.windows)
        answers = self.decider.decide(map(as_span, windows))
        mark_sound(answers)
        for name, answer in answers.items():
            answer["question"] = self.questions[name]["instructions"]
        answers["genre"]["top"] = find_top(answers["genre"]["probabilities"])
        caption = self._caption(path, windows) if answers["genre"]["heard"] else None
        if caption and (against := mark_caption(caption["text"], answers)):
            caption["contradicts"] = against
        states = {"states": self.pool_states(windows)} if self.states and answers["genre"]["heard"] else {}
        return states | {
            "audio": name_source(path),
            "duration_s": round(track.duration_s, 3),
            "caption": caption,
            "decisions": nest(answers),
            "measured": measure(path),
            "model": self.listener.name,
        }

    @torch.inference_mode()
    def pool_states(self, windows: Iterable[Window]) -> list[float]:
        """Return the mean (width,) of the model's audio states over positions and over windows of music."""
        model = self.listener.model
        music = [window for window in windows if self.decider.was_heard(window.start_s)]
        features = torch.stack([self.listener.extract_features(window) for window in music])
        states = model.get_audio_features(features.to(model.device, model.dtype))  # (windows, positions, width)
        return [round(value, 5) for value in states.float().mean(dim=(0, 1)).tolist()]

    def _caption(self, path: Source, windows: Iterable[Window]) -> dict[str, Any] | None:
        """Return the caption of the windows in which music is heard, and what it rests on; None where all failed."""
        music = [window for window in windows if self.decider.was_heard(window.start_s)]
        answered = [one for one in self.listener.answer_windows(path, music, [None]) if one.error is None]
        if not answered:
            return None
        caption = pool_track(answered)
        return {"text": caption.prediction, "heard": caption.heard, "windows": caption.windows, "of": caption.of}


def find_top(probabilities: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the three likeliest options, the likeliest first."""
    ordered = sorted(probabilities.items(), key=lambda pair: -pair[1])[:TOP]
    return [{"option": option, "probability": probability} for option, probability in ordered]


def mark_sound(answers: Mapping[str, dict[str, Any]]) -> None:
    """Name the genre and the sound in each other where they exclude each other, such as electronic music that sounds
    acoustic; the less likely one is not sure.
    """
    pair = {name: answers[name] for name in ("genre", "electronic")}
    if any(answer.get("reason") for answer in pair.values()):
        return
    (genre, likely), (sound, likelihood) = map(state, pair.values())
    if genre in pair["electronic"]["probabilities"] and genre != sound:
        for name, other in (("genre", "electronic"), ("electronic", "genre")):
            answers[name]["contradicts"] = sorted({*answers[name].get("contradicts", ()), other})
        answers["genre" if likely < likelihood else "electronic"]["sure"] = False


def mark_caption(caption: str, answers: Mapping[str, dict[str, Any]]) -> list[str]:
    """Name the answers that a caption contradicts, and the caption in them: genre (of no music, none is), tempo, who
    sings, instruments that it denies or that are denied. What is not answered is not contradicted.
    """
    claims, sung = read_categories(caption), read_claims(caption)["voices"]
    against = [
        name
        for name, category in EXCLUSIVE.items()
        if not answers[name].get("reason")
        and (named := claims[category][0])
        and not any(is_same(state(answers[name])[0], term, name) for term in named)
    ]
    playing, denied = claims["instruments"]
    for name, answer in answers.items():
        instrument = {"vocals": "vocals"}.get(name, name.partition("instruments.")[2])
        if instrument and not answer.get("reason"):
            heard = answer["noul"] >= 0.5
            against += [name] * any(agrees(instrument, term) for term in (denied - playing if heard else playing))
    if not answers["genre"].get("reason") and re.search(r"\bno music\b", caption, re.IGNORECASE):
        against.append("genre")
    against += [name for name in VOICES if name in answers and are_apart(sung, read_voices(name, answers[name]))]
    against = list(dict.fromkeys(against))
    for name in against:
        answers[name]["contradicts"] = sorted({*answers[name].get("contradicts", ()), "caption"})
    return against


def read_voices(name: str, answer: Mapping[str, Any]) -> frozenset[str]:
    """Return what an answer about singing claims, in the terms of `read_claims`; nothing where it is left open."""
    text, _ = state(answer)
    claim = {"yes": "vocals", "no": "no vocals"}.get(text, text) if name == "vocals" else text
    return frozenset() if answer.get("reason") else read_claims(claim)["voices"]


def are_apart(one: frozenset[str], other: frozenset[str]) -> bool:
    """Return whether claims about singing exclude each other: somebody or nobody, a woman or a man."""
    return bool(one and other) and not one & other or len((one | other) & {"female", "male"}) == 2


def is_same(option: str, term: str, question_type: str) -> bool:
    """Return whether an option and a term of a caption go together: one word for both, or a kind of the other."""
    names = find_terms(option, question_type) or {option}
    return any(is_kind(name, term) for name in names)


def nest(answers: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return answers by name, those about instruments in a dict of their own."""
    nested: dict[str, Any] = {name: answer for name, answer in answers.items() if "." not in name}
    return nested | {
        "instruments": {name.partition(".")[2]: answer for name, answer in answers.items() if "." in name}
    }


def format_description(description: Mapping[str, Any], always: bool = False) -> Iterator[str]:
    """Yield the lines of a description for a terminal; what the model was not trained on is left out."""
    minutes, seconds = divmod(round(description["duration_s"]), 60)
    yield f"{description['audio']}  ({minutes}:{seconds:02d})"
    if description["caption"]:
        text, note = " ".join(description["caption"]["text"].split()), name_contradictions(description["caption"])
        yield f"  caption      {text}{f' ({note})' if note else ''}"
    decisions = description["decisions"]
    if not decisions["genre"]["heard"]:
        yield f"  {describe_answer(decisions['genre'])}"
    else:
        yield from format_answers(decisions, always)
    if description["measured"]:
        yield f"  measured     {format_measured(description['measured'])}"


def format_answers(decisions: Mapping[str, Any], always: bool) -> Iterator[str]:
    """Yield a line for each decision, and one for all instruments that are decided."""
    left_out = []
    for name, answer in decisions.items():
        if name != "instruments" and answer.get("reason"):
            left_out.append(name)
        elif name == "genre" and (answer["sure"] or always):
            top = ", ".join(f"{one['option']} {100 * one['probability']:.0f} %" for one in answer["top"])
            note = name_contradictions(answer)
            yield f"  {name:<11}  {top}{f' ({note})' if note else ''}"
        elif name != "instruments":
            yield f"  {name:<11}  {describe_answer(answer, always)}"
    known = {name: answer for name, answer in decisions["instruments"].items() if not answer.get("reason")}
    if known:
        said = ", ".join(f"{name} {describe_answer(answer, always)}" for name, answer in known.items())
        yield f"  instruments  {said}"
    if left_out:
        yield f"  not trained  {', '.join(left_out)}"


def format_measured(measured: Mapping[str, Any]) -> str:
    """Return what was measured on one line."""
    parts = []
    if measured["bpm"]["value"] is not None:
        parts.append(f"{measured['bpm']['value']:.0f} BPM")
    if measured["key"]["value"] is not None:
        parts.append(measured["key"]["value"])
    if measured["loudness_lufs"]["value"] is not None:
        parts.append(f"{measured['loudness_lufs']['value']:.1f} LUFS")
    return ", ".join([*parts, f"{100 * measured['silence_share']['value']:.0f} % silence"])


def measure(path: Source) -> dict[str, Any] | None:
    """Measure tempo, key, loudness and silence of the first ten minutes of a file; None without the extra `[measure]`.

    Returns `bpm`, `key`, `loudness_lufs` and `silence_share`, each with `value` (None where it cannot be said) and
    `confidence` (None where the library gives none), and `measured_s`. Of silence there is no value but its share.
    Raises AudioError.
    """
    if find_spec("librosa") is None or find_spec("pyloudnorm") is None:
        return None
    try:
        pieces = [measure_piece(piece) for piece in read_beginning(path)]
    except AudioError as error:
        if error.silent_s is None:
            raise
        silent_s = min(error.silent_s, MEASURED_S)
        unknown = {"value": None, "confidence": None}
        nothing = dict.fromkeys(("bpm", "key", "loudness_lufs"), unknown)
        return nothing | {"silence_share": {"value": 1.0, "confidence": None}, "measured_s": round(silent_s, 3)}
    return {
        "bpm": pool_tempo(pieces),
        "key": find_key(np.sum([piece.chroma for piece in pieces], axis=0)),
        "loudness_lufs": {"value": pool_loudness(pieces), "confidence": None},
        "silence_share": {"value": share_silence(pieces), "confidence": None},
        "measured_s": round(sum(piece.seconds for piece in pieces), 3),
    }


@dataclass(frozen=True)
class Piece:
    """What is measured of a piece of a track: beats a minute, the distances of its beats in frames, the sum of pitch
    classes over frames (12,), LUFS (-inf for silence), how many of its stretches of 50 ms are silent, of how many.
    """

    seconds: float
    bpm: float
    distances: list[int]
    chroma: np.ndarray
    loudness: float
    silent: int
    stretches: int


def read_beginning(path: Source) -> Iterator[np.ndarray]:
    """Yield the first ten minutes of a file as mono waveforms (samples,) of 60 s; the last one may be shorter."""
    size, read = PIECE_S * RATE, 0
    waiting = np.zeros(0, np.float32)
    for block in stream_audio(path, RATE):
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= size and read < MEASURED_S * RATE:
            yield waiting[:size]
            waiting, read = waiting[size:], read + size
        if read >= MEASURED_S * RATE:
            return
    if len(waiting) >= LEAST_S * RATE or (read == 0 and len(waiting)):
        yield waiting


def measure_piece(waveform: np.ndarray) -> Piece:
    """Measure a mono waveform (samples,) of 60 s at most."""
    import librosa
    import pyloudnorm

    warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set", UserWarning)
    size = round(FRAME_S * RATE)
    frames = waveform[: max(1, len(waveform) // size) * size].reshape(-1, min(size, len(waveform)))
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    tempo, beats = librosa.beat.beat_track(y=waveform, sr=RATE)
    return Piece(
        seconds=len(waveform) / RATE,
        bpm=float(np.atleast_1d(tempo)[0]),
        distances=[int(later - earlier) for earlier, later in pairwise(beats)],
        chroma=librosa.feature.chroma_stft(y=waveform, sr=RATE).sum(axis=1),
        loudness=float(pyloudnorm.Meter(RATE).integrated_loudness(waveform.astype(np.float64))),
        silent=int(np.sum(levels < 10 ** (SILENCE_DBFS / 20))),
        stretches=len(levels),
    )


def pool_tempo(pieces: Sequence[Piece]) -> dict[str, Any]:
    """Return beats a minute, the median of the pieces with beats, and as confidence how even all their beats are: 1
    less the spread of their distances.
    """
    distances = [distance for piece in pieces for distance in piece.distances]
    if len(distances) < 3:
        return {"value": None, "confidence": 0.0}
    tempi = sorted(piece.bpm for piece in pieces if piece.distances)
    spread = float(np.std(distances) / np.mean(distances))
    return {"value": round(tempi[len(tempi) // 2], 1), "confidence": round(max(0.0, 1 - spread), 3)}


def find_key(chroma: np.ndarray) -> dict[str, Any]:
    """Return the key whose profile fits pitch classes (12,) best, and how far it leads the next (correlations)."""
    if chroma.std() < 1e-6 * max(1.0, chroma.mean()):
        return {"value": None, "confidence": 0.0}
    fits = {
        f"{NAMES[tonic]} {mode}": float(np.corrcoef(np.roll(profile, tonic), chroma)[0, 1])
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    }
    (best, first), (_, second) = sorted(fits.items(), key=lambda pair: -pair[1])[:2]
    return {"value": best, "confidence": round(first - second, 3)}


def pool_loudness(pieces: Sequence[Piece]) -> float | None:
    """Return the loudness in LUFS: the integrated loudness (ITU-R BS.1770) of a piece; of several, the mean of their
    energies over time, gated as the standard gates its blocks. None for silence.
    """
    loud = [piece for piece in pieces if piece.loudness > GATE_LUFS]
    if not loud:
        return None
    level = mean_energy(loud)
    return round(mean_energy([piece for piece in loud if piece.loudness > level - GATE_LU]), 2)


def mean_energy(pieces: Sequence[Piece]) -> float:
    """Return the mean loudness of pieces in LUFS, by energy, each as long as it lasts."""
    energies, seconds = [10 ** (piece.loudness / 10) for piece in pieces], [piece.seconds for piece in pieces]
    return float(10 * np.log10(np.average(energies, weights=seconds)))


def share_silence(pieces: Sequence[Piece]) -> float:
    """Return the share of stretches of 50 ms that lie under -60 dBFS."""
    return round(sum(piece.silent for piece in pieces) / sum(piece.stretches for piece in pieces), 4)

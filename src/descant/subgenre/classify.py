"""Classification of tracks by a loaded model: the labels, and the pieces of the track on which each one rests."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.model_folder import CLASSIFYING, ModelFolderError, find_model, fingerprint_model, load_model
from descant.answering.stream import AnswerStream, Recording
from descant.data.audio import format_stamp
from descant.data.storage import is_local, name_source
from descant.models import box
from descant.models.subgenre.modeling_subgenre import name_labels
from descant.program import escape, name_error
from descant.subgenre.hearing import CaptionerAnswer, TrackHearing, TrackListener, find_spans, pool_windows
from descant.subgenre.lyrics import Lyrics, find_lyrics, read_lyrics_file

log = logging.getLogger(__name__)

# Longer lyrics are cut into as many passages of neighbouring lines, so that the cost does not grow with their square.
MAX_PASSAGES = 16


@dataclass(frozen=True)
class TrackParts:
    """The lyrics, the captioner's answers and its embedding of each window, (windows, width) at `spans` (seconds)."""

    lyrics: str | None = None
    answers: tuple[CaptionerAnswer, ...] = ()
    window_embeds: np.ndarray | None = None
    spans: tuple[tuple[float, float], ...] = ()

    @property
    def captions(self) -> list[str] | None:
        """The answers as the classifier reads them, None where there are none."""
        return [one.answer for one in self.answers if one.answer.strip()] or None

    @property
    def audio_embeds(self) -> np.ndarray | None:
        """The mean embedding of the windows (width,), None where no window is left."""
        return None if self.window_embeds is None else pool_windows(self.window_embeds, self.spans)

    @property
    def modalities(self) -> list[str]:
        """Which of lyrics, captions and audio are there."""
        there = {"lyrics": self.lyrics, "captions": self.captions, "audio": self.window_embeds}
        return [name for name, value in there.items() if value is not None]


@dataclass(frozen=True)
class Piece:
    """A passage of lyrics, an answer (all the windows about which it was given), or a window of sound.

    kind: lyrics, captions or audio. text: the lines or the answer, None for sound. spans: where (seconds).
    """

    kind: str
    text: str | None = None
    question: str | None = None
    spans: tuple[tuple[float, float], ...] = ()


def take_pieces_away(track: TrackParts) -> Iterator[tuple[Piece, TrackParts]]:
    """Yield every piece of a track, with the track as it is without that piece (occlusion)."""
    yield from _without_passages(track)
    yield from _without_answers(track)
    yield from _without_windows(track)


def _without_passages(track: TrackParts) -> Iterator[tuple[Piece, TrackParts]]:
    lines = [line for line in (track.lyrics or "").splitlines() if line.strip()]
    passages = [part.tolist() for part in np.array_split(np.array(lines, dtype=object), MAX_PASSAGES) if len(part)]
    for number, passage in enumerate(passages):
        others = [line for other in passages[:number] + passages[number + 1 :] for line in other]
        yield Piece("lyrics", "\n".join(passage)), replace(track, lyrics="\n".join(others) or None)


def _without_answers(track: TrackParts) -> Iterator[tuple[Piece, TrackParts]]:
    """Take the same answer to the same question about several windows as one piece: alone, none would be missed."""
    given: dict[tuple[str | None, str], list[tuple[float, float]]] = {}
    for one in track.answers:
        if one.answer.strip():
            given.setdefault((one.question, one.answer), []).append((one.start_s, one.end_s))
    for (question, answer), spans in given.items():
        others = tuple(one for one in track.answers if (one.question, one.answer) != (question, answer))
        yield Piece("captions", answer, question, tuple(spans)), replace(track, answers=others)


def _embeds_of(track: TrackParts) -> np.ndarray:
    return np.zeros((0, 0)) if track.window_embeds is None else track.window_embeds


def _without_windows(track: TrackParts) -> Iterator[tuple[Piece, TrackParts]]:
    for number, span in enumerate(track.spans):
        others = np.delete(_embeds_of(track), number, axis=0)
        rest = track.spans[:number] + track.spans[number + 1 :]
        without = replace(track, window_embeds=others if len(others) else None, spans=rest)
        yield Piece("audio", spans=(span,)), without


@dataclass(frozen=True)
class Evidence:
    """A piece of the track and by how much the label's probability falls without it."""

    piece: Piece
    drop: float

    def describe(self) -> str:
        """Return one line: the fall in points, the kind, where, and the words."""
        stamps = ", ".join(format_stamp(*span) for span in join_neighbours(self.piece.spans))
        text = " / ".join((self.piece.text or "").splitlines())
        parts = [f"{-100 * self.drop:+.1f}", self.piece.kind, stamps, self.piece.question, text]
        return "  ".join(" ".join(part.split()) for part in parts if part)


def join_neighbours(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join spans that follow on each other; they are in order."""
    joined: list[tuple[float, float]] = []
    for start_s, end_s in spans:
        if joined and joined[-1][1] == start_s:
            joined[-1] = (joined[-1][0], end_s)
        else:
            joined.append((start_s, end_s))
    return joined


@dataclass(frozen=True)
class NamedLabel:
    """A genre, or a subgenre by its full name, with its probability and the pieces on which it rests most."""

    label: str
    score: float
    evidence: Sequence[Evidence] = ()


@dataclass(frozen=True)
class Classification:
    """All about one recording. One that cannot be classified has an `error`, and neither labels nor scores.

    labels: the named ones, genres first, the likeliest first. scores: every label → probability. read: which of
    lyrics, captions and audio there were. notes: what was done to them, and what is missing and why.
    """

    audio: str
    model: str
    captioner: str | None = None
    labels: Sequence[NamedLabel] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    read: Sequence[str] = ()
    notes: Sequence[str] = ()
    error: str | None = None

    def to_json(self) -> str:
        """Return one line of JSON, each piece of evidence as one object."""
        record = asdict(self)
        for label in record["labels"]:
            label["evidence"] = [one["piece"] | {"drop": one["drop"]} for one in label["evidence"]]
        return json.dumps(record, ensure_ascii=False)

    def to_text(self) -> str:
        """Return a line for the recording, one for each label, one for each piece below it."""
        lines = [f"{escape(self.audio)}  (from {', '.join(self.read)})"]
        for label in self.labels:
            lines.append(f"  {100 * label.score:.1f} %  {label.label}")
            lines += [f"      {evidence.describe()}" for evidence in label.evidence]
        return "\n".join(lines)


PIECES_SHOWN = 3
LEAST_DROP = 0.001  # below it a piece is not worth naming


class TrackClassifier:
    """A model and its processor; `name` is what the records call it."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, name: str, batch_size: int = 32) -> None:
        self.model, self.processor, self.name, self.batch_size = model, processor, name, batch_size
        config = model.config
        self.labels = [config.id2label[number] for number in range(config.num_labels)]
        self.parents = torch.tensor(config.parents, dtype=torch.long)

    @classmethod
    def load(cls, source: str, batch_size: int = 32) -> "TrackClassifier":
        """Load a folder or a model of the Hub, onto the GPU where there is one; raises ModelFolderError."""
        model, processor = load_model(find_model(source, CLASSIFYING), auto=CLASSIFYING)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor, source, batch_size)

    def classify(self, track: TrackParts, explain: bool = True) -> tuple[list[NamedLabel], dict[str, float]]:
        """Return the named labels, genres first and the likeliest first, and the probability of every label.

        explain: look for the pieces without which a label's probability falls most (occlusion, Zeiler and Fergus
            2014).
        Raises ValueError where nothing is known of the track, or its embedding has another width than the model's.
        """
        pieces = list(take_pieces_away(track)) if explain else []
        probabilities = self.score([track, *(without for _, without in pieces)])
        own, drops = probabilities[0], probabilities[0] - probabilities[1:]
        thresholds = torch.tensor(self.model.config.list_thresholds(track.modalities))
        named = name_labels(torch.from_numpy(probabilities[:1]), thresholds, self.parents)[0].numpy()
        genres = len(self.labels) - len(self.parents)
        labels = []
        for label in sorted(np.flatnonzero(named), key=lambda label: (label >= genres, -own[label])):
            heaviest = np.argsort(-drops[:, label], kind="stable")[:PIECES_SHOWN]
            evidence = [Evidence(pieces[one][0], float(drops[one, label])) for one in heaviest]
            evidence = [one for one in evidence if one.drop >= LEAST_DROP]
            labels.append(NamedLabel(self.labels[label], float(own[label]), evidence))
        return labels, dict(zip(self.labels, own.tolist(), strict=True))

    @torch.no_grad()
    def score(self, tracks: Sequence[TrackParts]) -> np.ndarray:
        """Predict probabilities (tracks, labels), genres first; raise ValueError where they are not finite."""
        scores = []
        for start in range(0, len(tracks), self.batch_size):
            batch = tracks[start : start + self.batch_size]
            inputs = self.processor(
                lyrics=[one.lyrics for one in batch], captions=[one.captions for one in batch],
                audio_embeds=[one.audio_embeds for one in batch], return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
            scores.append(self.model(**inputs).logits.float().sigmoid().cpu())
        probabilities = torch.cat(scores).numpy()
        if not np.isfinite(probabilities).all():
            raise ValueError("the model's scores are no finite numbers: its weights, or the embeddings, are damaged")
        return probabilities


class Classifying:
    """A stream of (number of the recording, its classification), each as soon as it is there."""

    def __init__(
        self, classifier: TrackClassifier, recordings: Sequence[Recording], listener: TrackListener | None = None,
        *, lyrics: Path | None = None, explain: bool = True, note: str | None = None,
    ) -> None:  # fmt: skip
        """Take what is to be classified.

        listener: captions and embeds the recordings; without one only lyrics are read, and `note` says why.
        lyrics: of the one recording; otherwise they are read beside the sound or from its tags.
        """
        self.classifier, self.recordings, self.listener = classifier, recordings, listener
        self.lyrics, self.explain, self.note = lyrics, explain, note

    def __iter__(self) -> Iterator[tuple[int, Classification]]:
        for hearing in self._hear():
            number = int(hearing.track_id)
            recording = self.recordings[number]
            try:
                result = self._classify(recording, hearing)
            except Exception as error:  # whatever one recording raises is its problem
                result = Classification(recording.audio, self.classifier.name, error=name_error(error))
            yield number, result

    def _hear(self) -> Iterator[TrackHearing]:
        numbered = [(str(number), recording.path) for number, recording in enumerate(self.recordings)]
        if self.listener is not None:
            yield from self.listener.hear(numbered)
            return
        for number, source in numbered:
            gone = is_local(source) and not Path(source).is_file()
            yield TrackHearing(number, error=f"{source!s}: does not exist" if gone else None)

    def _classify(self, recording: Recording, hearing: TrackHearing) -> Classification:
        captioner = self.listener.listener.name if self.listener else None
        empty = Classification(recording.audio, self.classifier.name, captioner)
        if hearing.error is not None:
            return replace(empty, error=hearing.error.removeprefix(f"{name_source(recording.path)}: "))
        lyrics = self._find_lyrics(recording)
        track = join_parts(lyrics.text, hearing)
        notes = [*lyrics.notes, *([self.note] if self.note else [])]
        if not track.modalities:
            return replace(empty, notes=notes, error="; ".join(["there is nothing to go by", *notes]))
        labels, scores = self.classifier.classify(track, self.explain)
        return replace(empty, labels=labels, scores=scores, read=track.modalities, notes=notes)

    def _find_lyrics(self, recording: Recording) -> Lyrics:
        """Read the lyrics; those that cannot be read are a note: the sound is still there."""
        source = recording.path
        try:
            if self.lyrics:
                found = read_lyrics_file(self.lyrics)
            elif is_local(source):
                found = find_lyrics(Path(source))
            else:
                return Lyrics(None, ["lyrics are looked for beside files of this machine only"])
        except ValueError as error:
            return Lyrics(None, [str(error)])
        return found if found.text or found.notes else Lyrics(None, ["no lyrics were found"])


def join_parts(lyrics: str | None, hearing: TrackHearing) -> TrackParts:
    """Join lyrics, answers and embeddings to a track."""
    return TrackParts(lyrics, hearing.answers, hearing.window_embeds, find_spans(hearing.answers))


def load_captioner(
    classifier: TrackClassifier, source: str | None, batch_size: int = 32
) -> tuple[TrackListener | None, str | None]:
    """Load the captioner of a classifier, or say why there is none.

    source: a folder or Hub id in place of the captioner that the model was trained with. That one may be gone: then
    lyrics alone are read. One that is asked for must be there.

    Raises:
        ModelFolderError: `source` cannot be loaded, or its embeddings have another width than those of the training.
    """
    config = classifier.model.config
    wanted = source or config.find_captioner()
    if wanted is None:
        return None, "the model names no captioner: only lyrics were read"
    # The name is that of the model in the box on every machine, also where a folder here has it.
    folder = str(box.FOLDER) if wanted == box.NAME and not source else wanted
    try:
        fingerprint = fingerprint_model(find_model(folder))
        captioner = AnswerStream.load(folder, everything=True, **config.captioner_generation)
        captioner.name = wanted
        hears = TrackListener(captioner, config.questions or [None], batch_size)
        width = hears.measure_width()
        if width != config.audio_dim:
            needed = f"the model needs ({config.audio_dim},)"
            raise ModelFolderError(f"{wanted}: its embeddings have shape ({width},), {needed}")
    except ModelFolderError as error:
        if source:
            raise
        return None, f"the model's captioner is gone, only lyrics were read: {error}"
    if config.captioner_hash not in (None, fingerprint):
        log.warning("%s is not the captioner that %s was trained with, by its fingerprint", wanted, classifier.name)
    return hears, None

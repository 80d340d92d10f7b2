"""What is known of a track, in pieces of which each can be taken away."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from descant.inference.track_hearing import Said, pool_windows

# Longer lyrics are cut into as many passages of neighbouring lines, so that the cost does not grow with their square.
MAX_PASSAGES = 16


@dataclass(frozen=True)
class TrackParts:
    """The lyrics, the captioner's answers and its embedding of each window, (windows, width) at `spans` (seconds)."""

    lyrics: str | None = None
    said: tuple[Said, ...] = ()
    window_embeds: np.ndarray | None = None
    spans: tuple[tuple[float, float], ...] = ()

    @property
    def captions(self) -> list[str] | None:
        """The answers as the classifier reads them, None where there are none."""
        return [one.answer for one in self.said if one.answer.strip()] or None

    @property
    def audio_embeds(self) -> np.ndarray | None:
        """(width,), None where no window is left."""
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
    """Every piece of a track, with the track as it is without that piece."""
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
    """The same answer to the same question about several windows is one piece: alone, none of them would be missed."""
    given: dict[tuple[str | None, str], list[tuple[float, float]]] = {}
    for one in track.said:
        if one.answer.strip():
            given.setdefault((one.question, one.answer), []).append((one.start_s, one.end_s))
    for (question, answer), spans in given.items():
        others = tuple(one for one in track.said if (one.question, one.answer) != (question, answer))
        yield Piece("captions", answer, question, tuple(spans)), replace(track, said=others)


def _without_windows(track: TrackParts) -> Iterator[tuple[Piece, TrackParts]]:
    for number, span in enumerate(track.spans):
        others = np.delete(track.window_embeds, number, axis=0)
        rest = track.spans[:number] + track.spans[number + 1 :]
        without = replace(track, window_embeds=others if len(others) else None, spans=rest)
        yield Piece("audio", spans=(span,)), without

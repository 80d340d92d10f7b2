"""Turns lyrics, captions and audio embeddings into what the classifier takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

LYRICS, CAPTIONS = 0, 1  # the values of `text_kind`

Text = str | Sequence[str]


class SubgenreProcessor(ProcessorMixin):
    """Cuts texts into overlapping windows of tokens: however long they are, all of them is read.

    window_tokens: longest window, special tokens included; the text encoder must have as many positions.
    overlap_tokens: tokens that two neighbouring windows share.
    audio_dim: width of the audio embedding.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        window_tokens: int = 128,
        overlap_tokens: int = 16,
        audio_dim: int = 768,
        **kwargs: Any,
    ) -> None:
        if not 0 <= overlap_tokens < window_tokens - 2:
            raise ValueError(f"overlap_tokens {overlap_tokens} must be less than window_tokens {window_tokens} - 2")
        self.window_tokens, self.overlap_tokens, self.audio_dim = window_tokens, overlap_tokens, audio_dim
        super().__init__(tokenizer, **kwargs)

    def __call__(
        self,
        lyrics: Text | Sequence[str | None] | None = None,
        captions: Text | Sequence[Text | None] | None = None,
        audio_embeds: Sequence[np.ndarray | Sequence[float] | None] | torch.Tensor | None = None,
        return_tensors: str | None = None,
        padding: bool | str = True,
        truncation: bool | str | None = None,
    ) -> BatchFeature:
        """Build the inputs of a batch of tracks, in which each track may lack any of the three.

        lyrics: one text a track; captions: one text or a list of sentences a track; audio_embeds: (audio_dim,) a
        track. A single text is a batch of one; a text without words counts as missing.

        Returns `text_input_ids` and `text_attention_mask` (windows, longest window), `text_row` (windows,) the track
        and `text_kind` (windows,) 0 lyrics, 1 captions of each window; `audio_embeds` (tracks, audio_dim) and
        `modality_mask` (tracks, 3): whether a track has lyrics, captions and audio. Without any text, the four text
        inputs are left out.
        padding, truncation: as other processors have them, though there is no choice: windows are padded to the
        longest, and a text is never cut off.
        Raises ValueError where another is asked for, where nothing is given, the numbers of tracks differ, or
        something is no text or no embedding of the right width.
        """
        if padding not in (True, "longest") or truncation not in (None, False, "do_not_truncate"):
            raise ValueError("texts are read in windows, padded to the longest: leave padding and truncation out")
        columns = [self._as_column(lyrics), self._as_column(captions), self._as_embeddings(audio_embeds)]
        tracks = count_tracks(columns)
        windows, audio = self._cut_columns(columns[:2], tracks), columns[2] or [None] * tracks
        given = {(row, kind) for row, kind, _ in windows}
        missing = [0.0] * self.audio_dim
        mask = [[(row, LYRICS) in given, (row, CAPTIONS) in given, audio[row] is not None] for row in range(tracks)]
        inputs = {
            "audio_embeds": [missing if embed is None else embed for embed in audio],
            "modality_mask": [list(map(int, row)) for row in mask],
        }
        return BatchFeature(inputs | self._pad(windows), tensor_type=return_tensors)

    def _cut_columns(self, columns: Sequence[Any], tracks: int) -> list[tuple[int, int, list[int]]]:
        """Cut the lyrics and the captions of tracks into windows: the track, the kind of text, and the tokens of each.
        """
        return [
            (row, kind, ids)
            for row in range(tracks)
            for kind, texts in zip((LYRICS, CAPTIONS), columns, strict=True)
            for ids, _ in self.cut(texts[row] if texts else None)
        ]

    def cut(self, text: Text | None) -> list[tuple[list[int], tuple[int, int]]]:
        """Cut one text into windows: their tokens, and where they begin and end in it (characters).

        A list of sentences is read as joined by `join_sentences`.
        """
        text = self.join_sentences(text)
        if not text.strip():
            return []
        encoded = self.tokenizer(
            text, truncation=True, max_length=self.window_tokens, stride=self.overlap_tokens,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        spans = [[offset for offset in offsets if offset[1] > offset[0]] for offsets in encoded["offset_mapping"]]
        return [
            (ids, (span[0][0], span[-1][1])) for ids, span in zip(encoded["input_ids"], spans, strict=True) if span
        ]

    @staticmethod
    def join_sentences(text: Text | None) -> str:
        """Join sentences into one text."""
        return text or "" if text is None or isinstance(text, str) else " ".join(text)

    @staticmethod
    def _as_column(texts: Text | Sequence[Text | None] | None) -> list[Any] | None:
        if texts is None:
            return None
        column: list[Any] = [texts] if isinstance(texts, str) else list(texts)
        for text in column:
            parts = text if isinstance(text, Sequence) else [text]
            if text is not None and not all(isinstance(part, str) for part in parts):
                raise ValueError(f"{text!r} is neither a text nor a list of texts; give None where there is none")
        return column

    def _as_embeddings(self, embeds: Sequence | torch.Tensor | None) -> list[Any] | None:
        if embeds is None:
            return None
        return [None if row is None else self._as_embedding(row) for row in embeds]

    def _as_embedding(self, row: Sequence[float] | torch.Tensor) -> list[float]:
        vector = row.float() if isinstance(row, torch.Tensor) else torch.tensor(row, dtype=torch.float32)
        if vector.shape != (self.audio_dim,):
            raise ValueError(
                f"an audio embedding has the shape {tuple(vector.shape)}, the model needs ({self.audio_dim},) a "
                "track: take it from the captioner that it was trained with"
            )
        if not vector.isfinite().all():
            raise ValueError("an audio embedding holds NaN or infinite numbers")
        return vector.tolist()

    def _pad(self, windows: list[tuple[int, int, list[int]]]) -> dict[str, list]:
        """Build the text inputs of windows (row, kind, tokens); none where there is no text at all."""
        if not windows:
            return {}
        rows, kinds, ids = zip(*windows, strict=True)
        longest, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        return {
            "text_input_ids": [row + [pad] * (longest - len(row)) for row in ids],
            "text_attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in ids],
            "text_row": list(rows),
            "text_kind": list(kinds),
        }

    @property
    def model_input_names(self) -> list[str]:
        """The inputs that the processor builds."""
        return ["text_input_ids", "text_attention_mask", "text_row", "text_kind", "audio_embeds", "modality_mask"]


def count_tracks(columns: Sequence[Sequence | None]) -> int:
    """Count the tracks of all given columns; raises ValueError where they differ or none is given."""
    sizes = {len(column) for column in columns if column is not None}
    if not sizes:
        raise ValueError("neither lyrics, captions nor audio_embeds were given")
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"lyrics, captions and audio_embeds are for {sorted(sizes)} tracks: give as many of each")
    return sizes.pop()


SubgenreProcessor.register_for_auto_class()

__all__ = ["CAPTIONS", "LYRICS", "SubgenreProcessor"]

"""Tracks joined with what a captioner heard in them: what the classifier reads, and the labels that it learns."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from descant.data.tracks import LabelTree, Track
from descant.inference.track_hearing import TrackHearing
from descant.models.subgenre.configuration_subgenre import MODALITIES
from descant.models.subgenre.processing_subgenre import SubgenreProcessor

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Example:
    """One track; what it lacks is None. labels: (labels,), genres first, 1 for its own and their parents."""

    track_id: str
    lyrics: str | None
    captions: tuple[str, ...] | None
    audio_embeds: np.ndarray | None
    labels: np.ndarray

    def keep(self, modalities: Collection[str]) -> "Example":
        """The same track with some of `lyrics`, `captions` and `audio` only."""
        fields = {"lyrics": "lyrics", "captions": "captions", "audio": "audio_embeds"}
        return replace(self, **{fields[one]: None for one in MODALITIES if one not in modalities})

    @property
    def is_empty(self) -> bool:
        return self.lyrics is None and not self.captions and self.audio_embeds is None


def gather_examples(
    tracks: Sequence[Track], hearings: Mapping[str, TrackHearing], questions: Sequence[str | None], tree: LabelTree
) -> list[Example]:
    """Joins tracks with their hearings; a track that was not heard, or in vain, has neither captions nor embedding."""
    places = {label: place for place, label in enumerate([*tree.genres, *tree.subgenres])}
    examples = []
    for track in tracks:
        hearing = hearings.get(track.track_id, TrackHearing(track.track_id))
        captions = tuple(sentence for sentence in hearing.sentences(questions) if sentence.strip())
        labels = np.zeros(len(places), dtype=np.float32)
        for label in (track.genre, *track.subgenres, *map(tree.parent, track.subgenres)):
            labels[places[label]] = 1
        examples.append(Example(track.track_id, track.lyrics, captions or None, hearing.audio_embeds, labels))
    return examples


class ExampleInputs(Dataset):
    """Examples as the model takes them, each tokenised once.

    An item is asked for as `row`, or `(row, epoch)` in training, and holds `row_index, epoch, inputs, labels`.
    """

    def __init__(self, examples: Sequence[Example], processor: SubgenreProcessor) -> None:
        self.examples = list(examples)
        self.inputs = [build_inputs(example, processor) for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, object]:
        row, epoch = index if isinstance(index, tuple) else (index, None)
        labels = torch.from_numpy(self.examples[row].labels)
        return {"row_index": row, "epoch": epoch, "inputs": self.inputs[row], "labels": labels}

    @property
    def labels(self) -> torch.Tensor:
        """The labels of all examples (examples, labels)."""
        return torch.from_numpy(np.stack([example.labels for example in self.examples]))

    @property
    def there(self) -> torch.Tensor:
        """Which of lyrics, captions and audio each example has (examples, 3)."""
        return torch.cat([one["modality_mask"] for one in self.inputs])

    @property
    def lengths(self) -> np.ndarray:
        """Windows of text in each example: what the cost of a training step grows with."""
        return np.array([len(one.get("text_row", ())) for one in self.inputs])


def build_inputs(example: Example, processor: SubgenreProcessor) -> Inputs:
    """The model's inputs for one track."""
    return dict(processor(
        lyrics=[example.lyrics], captions=[example.captions], audio_embeds=[example.audio_embeds], return_tensors="pt"
    ))  # fmt: skip


class ExampleCollator:
    """Joins examples to a batch; of a text with more than `train_windows` windows, training reads as many at a time.

    Which ones is drawn anew in each epoch, by row and seed, so that in the end all of them are read.
    """

    def __init__(self, pad_token_id: int, train_windows: int, seed: int) -> None:
        self.pad_token_id, self.train_windows, self.seed = pad_token_id, train_windows, seed

    def __call__(self, items: Sequence[dict[str, object]]) -> Inputs:
        inputs = [self._draw_windows(item) for item in items]
        batch = {
            "row_index": torch.tensor([item["row_index"] for item in items]),
            "labels": torch.stack([item["labels"] for item in items]),
        }
        return batch | join_inputs(inputs, self.pad_token_id)

    def _draw_windows(self, item: dict[str, object]) -> Inputs:
        inputs, epoch = item["inputs"], item["epoch"]
        if epoch is None or len(inputs.get("text_kind", ())) <= self.train_windows:
            return inputs
        random = np.random.default_rng([self.seed, epoch, item["row_index"]])
        kept = []
        for kind in (0, 1):
            places = np.flatnonzero(inputs["text_kind"].numpy() == kind)
            kept += sorted(random.permutation(places)[: self.train_windows])
        chosen = torch.tensor(kept)
        return {name: value[chosen] if name.startswith("text_") else value for name, value in inputs.items()}


def join_inputs(inputs: Sequence[Inputs], pad_token_id: int) -> Inputs:
    """The inputs of several tracks in one batch, windows padded to the longest."""
    batch = {name: torch.cat([one[name] for one in inputs]) for name in ("audio_embeds", "modality_mask")}
    texts = [(row, one) for row, one in enumerate(inputs) if "text_row" in one]
    if not texts:
        return batch
    rows = [torch.full_like(one["text_row"], row) for row, one in texts]
    return batch | {
        "text_input_ids": _pad([one["text_input_ids"] for _, one in texts], pad_token_id),
        "text_attention_mask": _pad([one["text_attention_mask"] for _, one in texts], 0),
        "text_row": torch.cat(rows),
        "text_kind": torch.cat([one["text_kind"] for _, one in texts]),
    }


def _pad(windows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    longest = max(one.shape[1] for one in windows)
    return torch.cat([torch.nn.functional.pad(one, (0, longest - one.shape[1]), value=value) for one in windows])

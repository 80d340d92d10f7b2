"""All that a subgenre run reads: its tracks by split, joined with the captioner's answers and embeddings."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from descant.data.splits import ClipHashes, find_leaks
from descant.models.subgenre.configuration_subgenre import MODALITIES, SubgenreConfig
from descant.models.subgenre.modeling_subgenre import list_thresholds, name_labels
from descant.models.subgenre.processing_subgenre import SubgenreProcessor
from descant.publish.facts import read_records
from descant.subgenre.artist_splits import split_corpus
from descant.subgenre.hearing import TrackHearing, hear_tracks
from descant.subgenre.label_scores import GoldLabels, LabelPredictions, gather_gold
from descant.subgenre.labels import TRACK_SPLITS, LabelTree, Track, TrackCorpus, ask_for_genre
from descant.subgenre.reading_tracks import load_tracks

log = logging.getLogger(__name__)

Inputs = dict[str, torch.Tensor]
GENERATION: Mapping[str, Any] = MappingProxyType({"num_beams": 1})  # how the captioner answers


@dataclass(frozen=True)
class Example:
    """One track; what it lacks is None. labels: (labels,), genres first, 1 for its own and their parents."""

    track_id: str
    lyrics: str | None
    captions: tuple[str, ...] | None
    audio_embeds: np.ndarray | None
    labels: np.ndarray

    def keep(self, modalities: Collection[str]) -> "Example":
        """Return the same track with some of `lyrics`, `captions` and `audio` only."""
        return replace(
            self,
            lyrics=self.lyrics if "lyrics" in modalities else None,
            captions=self.captions if "captions" in modalities else None,
            audio_embeds=self.audio_embeds if "audio" in modalities else None,
        )

    @property
    def is_empty(self) -> bool:
        """Whether the track has neither lyrics, captions nor audio."""
        return self.lyrics is None and not self.captions and self.audio_embeds is None


def gather_examples(
    tracks: Sequence[Track], hearings: Mapping[str, TrackHearing], questions: Sequence[str | None], tree: LabelTree
) -> list[Example]:
    """Join tracks with their hearings; a track without a hearing, or with a failed one, has no captions or embedding.
    """
    columns = {label: column for column, label in enumerate([*tree.genres, *tree.subgenres])}
    examples = []
    for track in tracks:
        hearing = hearings.get(track.track_id, TrackHearing(track.track_id))
        captions = tuple(sentence for sentence in hearing.sentences(questions) if sentence.strip())
        labels = np.zeros(len(columns), dtype=np.float32)
        for label in (track.genre, *track.subgenres, *map(tree.parent, track.subgenres)):
            labels[columns[label]] = 1
        examples.append(Example(track.track_id, track.lyrics, captions or None, hearing.audio_embeds, labels))
    return examples


class ExampleInputs(Dataset):
    """Examples as the model takes them, each tokenised once.

    The index of an item is `row`, or `(row, epoch)` in training; it holds `row_index, epoch, inputs, labels`.
    """

    def __init__(self, examples: Sequence[Example], processor: SubgenreProcessor) -> None:
        self.examples = list(examples)
        self.inputs = [build_inputs(example, processor) for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
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
    """Build the model's inputs for one track."""
    return dict(processor(
        lyrics=[example.lyrics], captions=[example.captions], audio_embeds=[example.audio_embeds], return_tensors="pt"
    ))  # fmt: skip


class ExampleCollator:
    """Joins examples to a batch; of a text with more windows, training reads `train_windows` at a time.

    They are drawn anew in each epoch, by row and seed, so that in the end all of them are read.
    """

    def __init__(self, pad_token_id: int, train_windows: int, seed: int) -> None:
        self.pad_token_id, self.train_windows, self.seed = pad_token_id, train_windows, seed

    def __call__(self, items: Sequence[dict[str, Any]]) -> Inputs:
        """Join items of `ExampleInputs` to the model's inputs, with `row_index` (batch,) and `labels`."""
        inputs = [self._draw_windows(item) for item in items]
        batch = {
            "row_index": torch.tensor([item["row_index"] for item in items]),
            "labels": torch.stack([item["labels"] for item in items]),
        }
        return batch | join_inputs(inputs, self.pad_token_id)

    def _draw_windows(self, item: dict[str, Any]) -> Inputs:
        inputs: Inputs = item["inputs"]
        epoch = item["epoch"]
        if epoch is None or len(inputs.get("text_kind", ())) <= self.train_windows:
            return inputs
        random = np.random.default_rng([self.seed, epoch, item["row_index"]])
        kept = []
        for kind in (0, 1):
            windows = np.flatnonzero(inputs["text_kind"].numpy() == kind)
            kept += sorted(random.permutation(windows)[: self.train_windows])
        chosen = torch.tensor(kept)
        return {name: value[chosen] if name.startswith("text_") else value for name, value in inputs.items()}


def join_inputs(inputs: Sequence[Inputs], pad_token_id: int) -> Inputs:
    """Join the inputs of several tracks in one batch, windows padded to the longest."""
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


@dataclass(frozen=True)
class SubgenreData:
    """Tracks, their hearings, and their examples, by split.

    captioner: folder or Hub id, None where there is none. questions: those whose answers are read. generation: the
    settings with which the captioner answered.
    """

    corpus: TrackCorpus
    captioner: str | None
    questions: tuple[str | None, ...]
    generation: dict[str, Any]
    tracks: dict[str, list[Track]]
    hearings: dict[str, TrackHearing]
    examples: dict[str, list[Example]]

    @property
    def tree(self) -> LabelTree:
        """The tree of the labels."""
        return self.corpus.tree

    @property
    def audio_dim(self) -> int:
        """The width of the captioner's embedding; 1 where there is none, since a model needs some."""
        widths = {len(one.audio_embeds) for one in self.hearings.values() if one.audio_embeds is not None}
        return widths.pop() if widths else 1

    def gold(self, split: str) -> GoldLabels | None:
        """Return the true labels of a split; None where it has no tracks."""
        return gather_gold(self.tracks[split], self.tree) if self.tracks[split] else None


def read_corpus(dataset: str, label_tree: str | None = None, audio_dir: str | None = None) -> TrackCorpus:
    """Return the tracks of `--dataset`; what could not be used is named in the log.

    Where some have no split they get one, by artist and sound and the same for every `--seed`.

    Raises:
        ValueError: nothing is there, or there are no tracks to train on.
    """
    corpus = load_tracks(dataset, LabelTree.read(label_tree) if label_tree else None, audio_dir)
    if any(track.split is None for track in corpus.tracks):
        corpus = split_corpus(corpus)
    for problem in corpus.problems:
        log.warning("left out: %s", problem)
    if corpus.notes:
        log.info("%d notes on the tracks, such as: %s", len(corpus.notes), corpus.notes[0])
    if not corpus.split("train"):
        raise ValueError(f"--dataset {dataset}: no track of it is in the training split")
    return corpus


def fingerprint_corpus(corpus: TrackCorpus) -> str:
    """Return number and hash of the tracks, the tree of their labels and its order included."""
    branches = repr(list(corpus.tree.branches.items()))
    digest = hashlib.sha256(f"{corpus.revision} {branches}".encode("utf-8", "surrogatepass"))
    return f"{len(corpus.tracks)} tracks, hash {digest.hexdigest()[:12]}"


def read_data(
    corpus: TrackCorpus, captioner: str | None, questions: tuple[str | None, ...], features: str, max_tracks: int = 0
) -> SubgenreData:
    """Join the tracks of each split with the captioner's hearings, from the cache as far as it has them.

    A track whose sound cannot be read is named in the log and keeps its lyrics; one that has neither is left out of
    training and stays in validation and test, where the model falls back to label frequencies.

    Args:
        features: folder of the cache.
        max_tracks: of each split (0: all).

    Raises:
        ValueError: there is no such captioner, or no training track has anything to read.
    """
    tracks = {split: corpus.split(split)[: max_tracks or None] for split in TRACK_SPLITS}
    everything = [track for split in TRACK_SPLITS for track in tracks[split]]
    hearings = {}
    if captioner is None:
        log.warning("no --captioner: only lyrics are read")
    else:
        _warn_of_leaks(captioner, tracks["test"])
        hearings = _hear(everything, captioner, [*questions, ask_for_genre(corpus.tree)], features)
    examples = {split: gather_examples(tracks[split], hearings, questions, corpus.tree) for split in TRACK_SPLITS}
    examples["train"] = _with_something(examples["train"])
    return SubgenreData(corpus, captioner, questions, dict(GENERATION), tracks, hearings, examples)


def _hear(
    tracks: Sequence[Track], captioner: str, questions: Sequence[str | None], features: str
) -> dict[str, TrackHearing]:
    paths: Mapping[str, Path] = {track.track_id: track.audio for track in tracks if track.audio is not None}
    with PartialState().local_main_process_first():  # the others read what it cached
        hearings = hear_tracks(paths, captioner, questions, features, **GENERATION)
    failed = [hearing.track_id for hearing in hearings.values() if hearing.error is not None]
    if failed:
        log.warning("the sound of %d of %d tracks could not be read, %s first", len(failed), len(paths), failed[0])
    return hearings


def _warn_of_leaks(captioner: str, tracks: Sequence[Track]) -> None:
    leaks = find_leaks(read_records(captioner)[1], {track.track_id: ClipHashes() for track in tracks})
    if leaks:
        log.warning(
            "leak: the captioner was trained on %d test tracks, %s first: its answers about them measure memory",
            len(leaks), leaks[0],
        )  # fmt: skip


def _with_something(examples: Sequence[Example]) -> list[Example]:
    kept = [example for example in examples if not example.is_empty]
    if not kept:
        raise ValueError("no training track has lyrics or audio that could be read: nothing can be learnt from them")
    if len(kept) < len(examples):
        log.warning("%d training tracks have neither lyrics nor sound and are left out", len(examples) - len(kept))
    return kept


@torch.no_grad()
def predict_probabilities(
    model: PreTrainedModel, examples: ExampleInputs, pad_token_id: int, batch_size: int = 64,
    modalities: Collection[str] = MODALITIES,
) -> np.ndarray:  # fmt: skip
    """Predict probabilities (examples, labels), genres first; modalities: those that the model may use."""
    training = model.training
    model.eval()
    visible = mark_visible(modalities)
    probabilities = []
    for start in range(0, len(examples), batch_size):
        batch = join_inputs(examples.inputs[start : start + batch_size], pad_token_id)
        batch["modality_mask"] = batch["modality_mask"] * visible
        batch = {name: value.to(model.device) for name, value in _without_hidden_texts(batch, visible).items()}
        probabilities.append(model(**batch).logits.float().sigmoid().cpu())
    model.train(training)
    return torch.cat(probabilities).numpy()


def mark_visible(modalities: Collection[str]) -> torch.Tensor:
    """Mark which of lyrics, captions and audio are among some modalities, (3,) of 0 and 1."""
    return torch.tensor([int(one in modalities) for one in MODALITIES])


def decide(probabilities: np.ndarray, config: SubgenreConfig, there: torch.Tensor) -> LabelPredictions:
    """Return probabilities with the subgenres that the model's thresholds choose.

    there: (tracks, modalities), those that the model has seen of each track.
    """
    return decide_with(probabilities, list_thresholds(config, there), config.parents)


def decide_with(probabilities: np.ndarray, thresholds: torch.Tensor, parents: Sequence[int]) -> LabelPredictions:
    """Decide as `decide` does, by thresholds (labels,) or (tracks, labels); parents: the genre of each subgenre."""
    genres = probabilities.shape[1] - len(parents)
    named = name_labels(torch.from_numpy(probabilities), thresholds, torch.tensor(parents, dtype=torch.long))
    return LabelPredictions(probabilities[:, :genres], probabilities[:, genres:], named[:, genres:].numpy())


def _without_hidden_texts(batch: Inputs, visible: torch.Tensor) -> Inputs:
    """Return the batch without the windows of hidden modalities, which need not be encoded."""
    if "text_kind" not in batch:
        return batch
    kept = visible[:2].bool()[batch["text_kind"]]
    if kept.any():
        return {name: value[kept] if name.startswith("text_") else value for name, value in batch.items()}
    return {name: value for name, value in batch.items() if not name.startswith("text_")}

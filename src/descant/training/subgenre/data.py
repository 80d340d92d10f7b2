"""All that a subgenre run reads: its tracks by split, joined with what the captioner heard in them."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descant.data.tracks import LabelTree, Track, TrackCorpus, load_tracks
from descant.data.tracks.corpus_splits import split_corpus
from descant.evaluation.labels import GoldLabels, ask_for_genre, gather_gold
from descant.evaluation.leakage import find_leaks
from descant.inference.hearing_cache import hear_tracks
from descant.inference.track_hearing import TrackHearing
from descant.training.records import read_records
from descant.training.subgenre.examples import Example, gather_examples
from descant.training.subgenre.settings import SubgenreSettings

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SubgenreData:
    """Tracks, what was heard in them, and their examples, by split.

    captioner: the folder or Hub id that heard them, None where nothing did. questions: those whose answers are read.
    generation: how the captioner answered.
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
        return self.corpus.tree

    @property
    def audio_dim(self) -> int:
        """Width of the captioner's embedding; 1 where there is none, for a model has to have some."""
        widths = {len(one.audio_embeds) for one in self.hearings.values() if one.audio_embeds is not None}
        return widths.pop() if widths else 1

    def gold(self, split: str) -> GoldLabels | None:
        """The true labels of a split; None where it has no tracks."""
        return gather_gold(self.tracks[split], self.tree) if self.tracks[split] else None


def read_corpus(settings: SubgenreSettings) -> TrackCorpus:
    """The tracks of `--dataset`; what could not be used is named in the log.

    Where some have no split they get one, by artist and sound and the same for every `--seed`.

    Raises:
        ValueError: nothing is there, or there are no tracks to train on.
    """
    tree = LabelTree.read(settings.label_tree) if settings.label_tree else None
    corpus = load_tracks(settings.dataset, tree, settings.audio_dir)
    if any(track.split is None for track in corpus.tracks):
        corpus = split_corpus(corpus)
    for problem in corpus.problems:
        log.warning("left out: %s", problem)
    if corpus.notes:
        log.info("%d notes on the tracks, such as: %s", len(corpus.notes), corpus.notes[0])
    if not corpus.split("train"):
        raise ValueError(f"--dataset {settings.dataset}: no track of it is in the training split")
    return corpus


def fingerprint(corpus: TrackCorpus) -> str:
    """Number and hash of the tracks, with the tree of their labels and its order."""
    branches = repr(list(corpus.tree.branches.items()))
    digest = hashlib.sha256(f"{corpus.revision} {branches}".encode("utf-8", "surrogatepass"))
    return f"{len(corpus.tracks)} tracks, hash {digest.hexdigest()[:12]}"


def read_data(
    corpus: TrackCorpus, captioner: str | None, questions: tuple[str | None, ...], settings: SubgenreSettings
) -> SubgenreData:
    """Joins the tracks of each split with what the captioner hears in them, from the cache as far as it is there.

    A track that cannot be heard is named in the log and keeps its lyrics; one that has neither is left out of training
    and keeps its place in the other splits, where the model goes by what is common.

    Raises:
        ValueError: there is no such captioner, or no training track has anything to read.
    """
    tracks = {split: corpus.split(split)[: settings.max_tracks or None] for split in SPLITS}
    everything = [track for split in SPLITS for track in tracks[split]]
    hearings = {}
    if captioner is None:
        log.warning("no --captioner: only lyrics are read")
    else:
        _warn_of_leaks(captioner, tracks["test"])
        hearings = _hear(everything, captioner, [*questions, ask_for_genre(corpus.tree)], settings)
    examples = {split: gather_examples(tracks[split], hearings, questions, corpus.tree) for split in SPLITS}
    examples["train"] = _with_something(examples["train"])
    return SubgenreData(corpus, captioner, questions, generation(settings), tracks, hearings, examples)


def generation(settings: SubgenreSettings) -> dict[str, Any]:
    """The settings with which the captioner answers."""
    return {"num_beams": settings.captioner_beams}


def _hear(
    tracks: Sequence[Track], captioner: str, questions: Sequence[str | None], settings: SubgenreSettings
) -> dict[str, TrackHearing]:
    paths: Mapping[str, Path] = {track.track_id: track.audio for track in tracks if track.audio is not None}
    with settings.main_process_first(desc="listening"):
        hearings = hear_tracks(paths, captioner, questions, settings.features, **generation(settings))
    unheard = [hearing.track_id for hearing in hearings.values() if hearing.error is not None]
    if unheard:
        log.warning("%d of %d tracks could not be heard, %s first", len(unheard), len(paths), unheard[0])
    return hearings


def _warn_of_leaks(captioner: str, tracks: Sequence[Track]) -> None:
    leaks = find_leaks(read_records(captioner)[1], {track.track_id: None for track in tracks})
    if leaks:
        log.warning(
            "leak: the captioner was trained on %d test tracks, %s first: what it says of them measures memory",
            len(leaks), leaks[0],
        )  # fmt: skip


def _with_something(examples: Sequence[Example]) -> list[Example]:
    kept = [example for example in examples if not example.is_empty]
    if not kept:
        raise ValueError("no training track has lyrics or audio that could be read: nothing can be learnt from them")
    if len(kept) < len(examples):
        log.warning("%d training tracks have neither lyrics nor sound and are left out", len(examples) - len(kept))
    return kept

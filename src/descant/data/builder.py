"""The base of the dataset builders: typed rows, split by recording, checked for leaks, as a `datasets` builder."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets

from descant.data.annotation_sources import hash_source
from descant.data.annotations import Annotations, Row
from descant.data.feature_store import FeatureStore
from descant.data.splits import check_leaks, cut_validation

logger = logging.getLogger(__name__)
PARTS = 16  # what several processes share out among themselves
COLUMNS = {
    "clip_id": datasets.Value("string"),
    "question": datasets.Value("string"),
    "answer": datasets.Value("string"),
    "question_type": datasets.Value("string"),
    "source": datasets.Value("string"),
    "start_s": datasets.Value("float64"),
    "end_s": datasets.Value("float64"),
}


class ClipRowsBuilder(datasets.GeneratorBasedBuilder):
    """Rows that refer to clips by id; a clip's feature lies in a `FeatureStore`, once, however many rows it has.

    Args:
        annotations: a file, a folder, a Hub id or a URL; by default the published dataset.
        feature_store: a store or its folder. Rows of clips without a feature are then left out, and the leak check
            also compares sounds.
        seed: of the choice of validation clips.

    Sources are no config arguments: the cache folder is named by their content, not by where they lie.
    """

    VERSION = datasets.Version("1.0.0")
    DEFAULT_ANNOTATIONS: str
    ROW_COLUMNS = COLUMNS

    def __init__(
        self,
        *,
        annotations: str | Path | None = None,
        feature_store: FeatureStore | str | Path | None = None,
        seed: int = 0,
        hash: str | None = None,
        **kwargs: Any,
    ):
        self.annotations = annotations or self.DEFAULT_ANNOTATIONS
        # Not by asking for a Path: datasets puts its own class of that name into the modules of builders.
        is_store = feature_store is None or isinstance(feature_store, FeatureStore)
        self.store = feature_store if is_store else FeatureStore.open(feature_store)
        self.seed = seed
        super().__init__(hash=self._hash_sources(hash or ""), **kwargs)

    def sources(self) -> list[str | Path]:
        """What the rows are read from, for the hash."""
        return [self.annotations]

    def read(self) -> Annotations:
        """All rows of this configuration, with the published split."""
        raise NotImplementedError

    def split_rows(self) -> dict[str, list[Row]]:
        """The rows by split, without those whose clip has no feature; raises LeakError."""
        found = self.read()
        for problem in found.problems:
            logger.warning("skipped %s", problem)
        rows = found.rows
        if self.store is not None:
            rows = [row for row in rows if row.clip_id in self.store]
            if not rows:
                raise ValueError(f"{self.store.folder}: holds no clip of {self.annotations}")
        splits = cut_validation(rows, self.seed)
        check_leaks(splits, self.store.feature_sha256 if self.store is not None else None)
        return {split: part for split, part in splits.items() if part}

    def _hash_sources(self, given: str) -> str:
        digest = hashlib.sha256(f"{given}:{self.seed}".encode())
        for source in self.sources():
            digest.update(hash_source(source).encode())
        if self.store is not None:
            digest.update(repr(self.store.manifest()).encode())
        return digest.hexdigest()[:32]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            features=datasets.Features(self.ROW_COLUMNS), description=self.__doc__ or "", license=self.LICENCE
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        generators = []
        for split, rows in self.split_rows().items():
            size = -(-len(rows) // PARTS)
            parts = [(first, rows[first : first + size]) for first in range(0, len(rows), size)]
            generators.append(datasets.SplitGenerator(name=split, gen_kwargs={"parts": parts}))
        return generators

    def _generate_examples(self, parts: list[tuple[int, list[Row]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        for first, rows in parts:
            for number, row in enumerate(rows, start=first):
                fields = asdict(row)
                yield number, {name: fields[name] for name in self.ROW_COLUMNS}

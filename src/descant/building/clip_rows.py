"""The dataset builders' base, and the command line that their scripts share.

A builder gives typed rows, split by recording and checked for leaks, as a `datasets` builder does; a script reads the
annotations, computes features where there is sound, and writes the dataset's folder.
"""

import argparse
import hashlib
import logging
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets

from descant.building.dataset_folder import (
    DatasetFacts,
    bare_name,
    push_dataset,
    write_config,
    write_dataset_card,
    write_features,
    write_missing,
)
from descant.data.annotations import Annotations, Row, log_problems
from descant.data.clips import gather_clips
from descant.data.download import DownloadSettings, Ledger, download_clips
from descant.data.extraction import extract_features, read_skipped
from descant.data.features import FeatureStore
from descant.data.splits import check_leaks, cut_validation
from descant.data.tables import hash_source
from descant.files import sha256_of
from descant.program import ArgumentParser, count, require_writable, run_program, show

PARTS = 16  # what several processes share out among themselves
READERS = ("descant.data.annotations", "descant.data.splits", "descant.data.tables")  # modules that make the rows
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

    Sources are no config arguments: the cache folder is named by their content, not by where they lie, and by the
    code that reads them.
    """

    VERSION = datasets.Version("1.0.0")
    DEFAULT_ANNOTATIONS: str
    LICENCE: str
    ROW_COLUMNS = COLUMNS

    def __init__(
        self,
        *,
        annotations: str | Path | None = None,
        feature_store: FeatureStore | str | Path | None = None,
        seed: int = 0,
        hash: str | None = None,
        annotated: Annotations | None = None,
        **kwargs: Any,
    ) -> None:
        """Take the sources.

        annotated: what `read` gave before; the sources are then not read again.
        """
        self.annotations = annotations or self.DEFAULT_ANNOTATIONS
        # Not by asking for a Path: datasets puts its own class of that name into the modules of builders.
        if feature_store is None or isinstance(feature_store, FeatureStore):
            self.store = feature_store
        else:
            self.store = FeatureStore.open(feature_store)
        self.seed, self.annotated = seed, annotated
        super().__init__(hash=self._hash_sources(hash or ""), **kwargs)

    def sources(self) -> list[str | Path]:
        """Return what the rows are read from, for the hash."""
        return [self.annotations]

    def read(self) -> Annotations:
        """Return all rows of this configuration, with the published split."""
        raise NotImplementedError

    def split_rows(self) -> dict[str, list[Row]]:
        """Return the rows by split, without those whose clip has no feature; raise LeakError."""
        annotated = self.annotated
        if annotated is None:
            annotated = self.read()
            log_problems(annotated.problems)
        rows = annotated.rows
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
        code = (vars(sys.modules[name]).get("__file__") for name in (*READERS, type(self).__module__))
        for file in filter(None, code):  # a notebook is no file
            digest.update(sha256_of(file).encode())
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


@dataclass(frozen=True)
class Build:
    """What one script builds."""

    title: str
    script: str
    builder: type[ClipRowsBuilder]
    sources: list[str]


def build_parser(text: str | None, configs: list[str], annotations: str) -> argparse.ArgumentParser:
    """Return the parser of what all scripts take; `text` is the script's own description."""
    parser = ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--dataset_config", nargs="+", choices=configs, default=configs[:1], help="which rows (default: %(default)s)"
    )
    parser.add_argument("--annotations", metavar="SOURCE", help=f"file, folder, Hub id or URL (default {annotations})")
    parser.add_argument(
        "--audio_dir", metavar="FOLDER", action="append", default=[], help="sound or .npy files; may be given again"
    )
    parser.add_argument("--hub_audio", metavar="ID", action="append", default=[], help="a dataset with audio in it")
    parser.add_argument("--download_dir", metavar="FOLDER", help="fetch what is still missing into this folder")
    parser.add_argument(
        "--features", metavar="FOLDER", default="features", help="feature store (default: %(default)s)"
    )
    parser.add_argument("--output", metavar="FOLDER", type=Path, required=True, help="where the dataset goes")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of validation clips")
    parser.add_argument("--processes", metavar="N", type=count(1), help="for features; default: as the cores justify")
    parser.add_argument("--include_features", action="store_true", help="also write the features as a config")
    parser.add_argument("--push_to_hub", metavar="ID", help="publish there")
    parser.add_argument("--private", action="store_true", help="create the Hub repository as a private one")
    return parser


def run_build(build: Build, args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Build, print what came of it, and return the exit status (see `descant.program`).

    It is 0 where all clips are there and 1 where some are missing. `options` are the builder's own, beyond those of
    `ClipRowsBuilder`.
    """
    return run_program(build.script, lambda: _run(build, args, options), level=logging.WARNING)


def _run(build: Build, args: argparse.Namespace, options: dict[str, Any]) -> int:
    def make(config: str, store: FeatureStore | None = None, annotated: Annotations | None = None) -> ClipRowsBuilder:
        shared = {"annotations": args.annotations, "feature_store": store, "seed": args.seed, "annotated": annotated}
        return build.builder(config_name=config, **shared, **options)

    readings = {config: make(config).read() for config in args.dataset_config}
    problems = [problem for part in readings.values() for problem in part.problems]
    log_problems(problems)
    clips = {row.clip_id: row for part in readings.values() for row in part.rows}
    if not clips:
        raise ValueError(f"{make(args.dataset_config[0]).annotations}: holds no record that can be used")
    require_writable(args.output)
    store = _prepare_store(args, list(clips.values()))
    missing = _find_missing(args, store, clips) if store is not None else {}
    builders = {config: make(config, store, part) for config, part in readings.items()}
    _write_configs(args.output, builders)
    revision = "".join(str(builder.hash) for builder in builders.values())[:16]
    write_missing(args.output, missing if store is not None else None)
    if args.include_features:
        write_features(args.output, _require_sound(store), clips.keys() - missing.keys())
    write_dataset_card(args.output, _describe(build, args, options, revision))
    _report(readings, clips, store, missing)
    if args.push_to_hub:
        show(push_dataset(args.output, args.push_to_hub, args.private))
    return 1 if problems or missing else 0


def _prepare_store(args: argparse.Namespace, rows: list[Row]) -> FeatureStore | None:
    """Return the store with the features of all clips whose sound can be had; None where there is none at all."""
    from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor

    extractor = LPMusicCapsFeatureExtractor()
    store = FeatureStore(args.features, extractor.to_dict())
    sounds = gather_clips(rows, args.audio_dir, args.hub_audio)
    if args.download_dir:
        download_clips([row for row in rows if row.clip_id not in sounds], args.download_dir, DownloadSettings())
        sounds = gather_clips(rows, [*args.audio_dir, args.download_dir], args.hub_audio)
    if sounds:
        log_problems(extract_features(sounds, extractor, store, args.processes).problems)
    return store if any(row.clip_id in store for row in rows) else None


def _find_missing(args: argparse.Namespace, store: FeatureStore, clip_ids: Iterable[str]) -> dict[str, str]:
    """Map each clip without a feature to the reason that the download or the extraction recorded."""
    folders = [*args.audio_dir, *([args.download_dir] if args.download_dir else [])]
    gone = {clip: entry.status for folder in folders for clip, entry in Ledger(folder).entries.items()}
    unreadable = {clip: f"unreadable: {reason}" for clip, reason in read_skipped(store).items()}
    reasons = gone | unreadable
    return {clip: reasons.get(clip, "no sound found") for clip in clip_ids if clip not in store}


def _write_configs(output: Path, builders: Mapping[str, ClipRowsBuilder]) -> None:
    for config, builder in builders.items():
        builder.download_and_prepare()
        write_config(output, config, builder.as_dataset())


def _require_sound(store: FeatureStore | None) -> FeatureStore:
    if store is None:
        raise ValueError("--include_features needs sound: give --audio_dir, or --features with the clips in it")
    return store


def _describe(build: Build, args: argparse.Namespace, options: dict[str, Any], revision: str) -> DatasetFacts:
    command = ["python", f"datasets_scripts/{build.script}", "--dataset_config", *args.dataset_config]
    sources = {"annotations": [args.annotations], **{name: [one] for name, one in options.items()}}
    sources |= {"audio_dir": args.audio_dir, "hub_audio": args.hub_audio}
    command += [part for name, given in sources.items() for one in given if one
                for part in (f"--{name}", bare_name(one))]  # fmt: skip
    command += ["--seed", str(args.seed), "--output", args.output.name]
    command += ["--include_features"] if args.include_features else []
    text = " ".join((build.builder.__doc__ or "").split())
    return DatasetFacts(build.title, text, build.builder.LICENCE, build.sources, shlex.join(command), revision)


def _report(
    readings: dict[str, Annotations], clips: dict[str, Row], store: FeatureStore | None, missing: dict[str, str]
) -> None:
    for config, part in readings.items():
        show(f"{config}: {len(part.rows)} rows read, {len(part.problems)} bad records skipped")
    if store is None:
        show(f"{len(clips)} clips, without sound: a recipe joins the rows with a local feature store")
    else:
        show(f"{len(clips)} clips, {len(missing)} of them without sound and left out; features: {store.folder}")

"""What `--dataset` names (demo, a file, a folder, a Hub id) as rows and audio paths."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from descant.data.annotations import SHOWN_PROBLEMS, Problem, Row, log_problems, read_annotations
from descant.data.clips import ClipAudio, gather_clips
from descant.data.splits import VALIDATION_SHARE, check_leaks, cut_validation
from descant.data.tables import TABLE_SUFFIXES, fetch_dataset
from descant.files import sha256_of

SplitRows = dict[str, list[Row]]


@dataclass(frozen=True)
class Corpus:
    """A dataset ready to train on: rows by configuration and split, audio by clip, and where it comes from.

    published: whether `id` is a Hub id or a folder, where features may lie too; that of a table is only its name.
    """

    id: str
    revision: str
    licence: str
    configs: dict[str, SplitRows]
    audio: dict[str, ClipAudio] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    published: bool = False

    def rows(self, config: str, split: str) -> list[Row]:
        """Return the rows of a split in a configuration; none where there is no such split."""
        return self.configs[config].get(split, [])

    def splits(self) -> list[str]:
        """Return the names of all splits."""
        return sorted({split for rows in self.configs.values() for split in rows})


def load_corpus(dataset: str, configs: Sequence[str], audio_dir: str | None = None) -> Corpus:
    """Read the configurations (`short`, `long`, `all`, `captions`) of a dataset.

    Args:
        dataset: `demo`; a table of one's own, of MusicCaps or of MusicInstruct (see `read_annotations`); a folder that
            `load_dataset` reads (such as the builders' output); or a Hub id.
        configs: the configurations to read.
        audio_dir: where the clips' audio lies, as `<clip_id>` or `<ytid>` plus a suffix, when the rows name none.

    Raises:
        ValueError: nothing is there, a configuration has no rows, or (LeakError) a recording stands in two splits. The
            records that were left out are logged before.
    """
    configs = list(dict.fromkeys(configs))
    if dataset == "demo":
        corpus = _load_demo(configs)
    elif Path(dataset).suffix.lower() in TABLE_SUFFIXES:
        corpus = _load_table(Path(dataset), configs)
    else:
        corpus = _load_published(dataset, configs)
    if audio_dir is not None:
        if not Path(audio_dir).is_dir():
            raise ValueError(f"--audio_dir {audio_dir}: no such folder")
        corpus = replace(corpus, audio=gather_clips(_all_rows(corpus.configs), [audio_dir]) | corpus.audio)
    return corpus


def in_config(row: Row, config: str) -> bool:
    """Return whether a row belongs to a configuration. Rows without a question type count as short and as long."""
    if row.question is None or config == "captions":
        return row.question is None and config == "captions"
    if config == "all" or row.question_type is None:
        return True
    return row.question_type.startswith("long") == (config == "long")


def limit_clips(corpus: Corpus, clips: int) -> Corpus:
    """Return the same corpus with the first `clips` clips of each split."""
    configs = {
        name: {split: _first(rows, clips) for split, rows in part.items()} for name, part in corpus.configs.items()
    }
    chosen = {row.clip_id for row in _all_rows(configs)}
    audio = {clip: sound for clip, sound in corpus.audio.items() if clip in chosen}
    return replace(corpus, configs=configs, audio=audio)


def _first(rows: list[Row], clips: int) -> list[Row]:
    first = set(list(dict.fromkeys(row.clip_id for row in rows))[:clips])
    return [row for row in rows if row.clip_id in first]


def _load_demo(configs: Sequence[str]) -> Corpus:
    from descant.data.demo import CORPUS_VERSION, demo_dir, load_demo

    splits = load_demo()
    audio = gather_clips(_all_rows({"demo": splits}), [demo_dir() / "audio"])
    return Corpus("descant/demo", CORPUS_VERSION, "apache-2.0", _by_config(splits, configs), audio)


def _load_table(path: Path, configs: Sequence[str]) -> Corpus:
    annotations = read_annotations(path)
    try:
        share = 0.0 if any(row.split == "validation" for row in annotations.rows) else VALIDATION_SHARE
        splits = cut_validation(annotations.rows, share=share, folder=path.resolve().parent)
        check_leaks(splits)
        revision = sha256_of(path)[:12]
        by_config = _by_config(splits, configs)
        _require_rows(by_config, str(path))
    except ValueError:
        log_problems(annotations.problems, SHOWN_PROBLEMS)
        raise
    return Corpus(path.stem, revision, "unknown", by_config, gather_clips(annotations.rows), annotations.problems)


def _load_published(dataset: str, configs: Sequence[str]) -> Corpus:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub import DatasetCard
    from huggingface_hub.errors import HFValidationError
    from yaml import YAMLError

    from descant.hub_client import MissingError, NetworkError, patiently

    def load() -> tuple[dict[str, Any], Any]:
        for config in configs:
            fetch_dataset(dataset, config)
        loaded = {config: load_dataset(dataset, config) for config in configs}
        return loaded, DatasetCard.load(str(Path(dataset) / "README.md") if Path(dataset).is_dir() else dataset)

    try:
        loaded, card = patiently(load, dataset)
    except MissingError as error:
        raise ValueError(f"--dataset {dataset}: no such file or folder; {error}") from error
    except NetworkError:
        raise
    except (FileNotFoundError, HFValidationError) as error:
        raise ValueError(f"--dataset {dataset}: no such file, folder or Hub dataset: {error}") from error
    except (OSError, ValueError, LookupError, DatasetsError, YAMLError) as error:
        raise ValueError(f"--dataset {dataset}: cannot be read: {error}") from error
    rows = {
        config: {split: [_read_row(dataset, record) for record in part] for split, part in splits.items()}
        for config, splits in loaded.items()
    }
    _require_rows(rows, dataset)
    revision, licence = str(card.data.get("revision", "main")), str(card.data.license or "unknown")
    return Corpus(dataset, revision, licence, rows, published=True)


def _read_row(dataset: str, record: dict[str, Any]) -> Row:
    try:
        return Row(**record | {"tags": tuple(record.get("tags") or ())})  # Parquet gives a list, which has no hash
    except TypeError as error:
        raise ValueError(
            f"--dataset {dataset}: has the columns {', '.join(record)}, not those that descant's builders write"
        ) from error


def _by_config(splits: SplitRows, configs: Sequence[str]) -> dict[str, SplitRows]:
    return {
        config: {split: [row for row in rows if in_config(row, config)] for split, rows in splits.items()}
        for config in configs
    }


def _all_rows(configs: dict[str, SplitRows]) -> list[Row]:
    return [row for splits in configs.values() for rows in splits.values() for row in rows]


def _require_rows(configs: dict[str, SplitRows], dataset: str) -> None:
    for config, splits in configs.items():
        if not any(splits.values()):
            missing = "captions (rows without a question)" if config == "captions" else f"rows for {config!r}"
            raise ValueError(f"--dataset {dataset}: no {missing} in it")

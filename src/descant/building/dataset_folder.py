"""A dataset as a folder that `load_dataset` reads and the Hub shows: Parquet shards and a card, never sound."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow
import pyarrow.parquet
from datasets import Dataset, DatasetInfo, Features, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from huggingface_hub import DatasetCardData, HfApi

from descant.data.features import FEATURES_CONFIG, SETTINGS_FILE, FeatureStore
from descant.files import JsonLines, naming, replace_whole, require_inside, write_whole

SHARD_ROWS = 500_000
FEATURE_SHARD_CLIPS = 1_000  # about 250 MB
MISSING_FILE = "missing_clips.jsonl"
PUBLISHED = ("README.md", MISSING_FILE, SETTINGS_FILE, "*/*.parquet")


@dataclass(frozen=True)
class DatasetFacts:
    """What a card says of a dataset."""

    title: str
    description: str
    licence: str
    sources: list[str]
    command: str
    revision: str


def bare_name(source: str | Path) -> str:
    """Return a Hub id as it is, of a path or address its last name: a published command names no folders."""
    text = str(source).partition("?")[0]
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not Path(text).exists()
    return text if is_id else Path(text).resolve().name


def write_config(folder: Path, config: str, splits: Mapping[str, Dataset]) -> None:
    """Write `<config>/<split>-00000-of-00001.parquet`, in place of what an earlier build left there."""
    with _replace_config(folder, config) as building:
        for split, rows in splits.items():
            shards = max(1, -(-len(rows) // SHARD_ROWS))
            for number in range(shards):
                name = f"{split}-{number:05d}-of-{shards:05d}.parquet"
                with naming(folder / config / name):
                    rows.shard(shards, number, contiguous=True).to_parquet(building / name)


def write_features(folder: Path, store: FeatureStore, clip_ids: Iterable[str]) -> None:
    """Write the stored records of clips as the config `features`, each as the bytes that the store holds."""
    clip_ids = sorted(clip_ids)
    shards = max(1, -(-len(clip_ids) // FEATURE_SHARD_CLIPS))
    with _replace_config(folder, FEATURES_CONFIG) as building:
        for number in range(shards):
            part = clip_ids[number * FEATURE_SHARD_CLIPS : (number + 1) * FEATURE_SHARD_CLIPS]
            name = f"train-{number:05d}-of-{shards:05d}.parquet"
            with naming(folder / FEATURES_CONFIG / name):
                _write_feature_shard(building / name, store, part)
        write_whole(building / "settings.json", json.dumps(store.settings, indent=2, sort_keys=True) + "\n")


def _write_feature_shard(path: Path, store: FeatureStore, clip_ids: list[str]) -> None:
    schema = pyarrow.schema(
        [("clip_id", pyarrow.string()), ("record", pyarrow.binary()), ("audio_sha256", pyarrow.string())]
    )
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, len(clip_ids), 100):  # a row group, of which a reader in a stream takes one at a time
            part = clip_ids[first : first + 100]
            columns = [part, [store.read_record(clip) for clip in part], [store.sha256(clip) for clip in part]]
            writer.write_table(pyarrow.table(columns, schema=schema))


def write_missing(folder: Path, reasons: Mapping[str, str] | None) -> None:
    """Write the clips that have no sound, and why; None removes the file: sound was not looked for."""
    if reasons is None:
        return (folder / MISSING_FILE).unlink(missing_ok=True)
    JsonLines(folder / MISSING_FILE).write({"clip_id": clip, "reason": reasons[clip]} for clip in sorted(reasons))


def write_dataset_card(folder: Path, facts: DatasetFacts) -> None:
    """Write README.md for all configs in the folder."""
    # A folder with a dot is a build that was stopped.
    configs = sorted({path.parent.name for path in folder.glob("[!.]*/*.parquet")})
    data = DatasetCardData(
        license=facts.licence,
        language="en",
        pretty_name=facts.title,
        tags=["music", "audio", "descant"],
        task_categories=["question-answering", "text-generation"],
        configs=[_config_entry(folder / config) for config in configs],
        revision=facts.revision,
    )
    infos = {config: _info_of(folder / config) for config in configs}
    DatasetInfosDict(infos).to_dataset_card_data(data)
    table = ["| config | split | rows | clips |", "|---|---|---|---|"]
    table += [line for config in configs for line in _count_lines(folder / config)]
    text = f"---\n{data.to_yaml()}\n---\n\n# {facts.title}\n\n{facts.description}\n\n" + "\n".join(table)
    text += "\n\n" + "\n\n".join([_columns_text(configs), _missing_text(folder), _rebuild_text(facts)]) + "\n"
    write_whole(folder / "README.md", text)


def push_dataset(
    folder: Path, repo_id: str, private: bool = False, more: Sequence[str] = (), api: HfApi | None = None
) -> str:
    """Upload the folder's card, rows and (where they were written) features in one commit; return its address.

    more: names of other files to upload.

    Raises ValueError where the Hub refuses or cannot be reached, or a file is a link out of the folder: nothing is
    then published, and the folder is whole.
    """
    from descant.hub_client import PUSH_RETRIES, ask_hub

    api = api or HfApi()
    ask = partial(ask_hub, source=repo_id, retries=PUSH_RETRIES, hub=api.endpoint)
    try:
        patterns = [*PUBLISHED, *more]
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            require_inside(path, folder)
        made = ask(partial(api.create_repo, repo_id, repo_type="dataset", private=private, exist_ok=True))
        upload = partial(
            api.upload_folder,
            repo_id=made.repo_id,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=patterns,
            delete_patterns=["*/*.parquet", SETTINGS_FILE, MISSING_FILE],
            commit_message="Publish the dataset",
        )
        return ask(upload).commit_url
    except (OSError, ValueError) as error:
        raise ValueError(f"{repo_id} was not published, the dataset lies in {folder}: {error}") from error


@contextmanager
def _replace_config(folder: Path, config: str) -> Iterator[Path]:
    """Give a new folder that takes the place of a config's when all of it is written.

    Folders that killed builds left are removed, or put back where the kill came between the two renames.
    """
    target = folder / config
    for left in sorted(folder.glob(f".*.{config}")):
        if f".old.{config}" in left.name and not target.exists():
            left.rename(target)
        shutil.rmtree(left, ignore_errors=True)
    with replace_whole(target) as building:
        building.mkdir()
        yield building


def _splits(config: Path) -> list[str]:
    names = {path.name.split("-")[0] for path in config.glob("*.parquet")}
    return [split for split in ("train", "validation", "test") if split in names]


def _info_of(config: Path) -> DatasetInfo:
    files = {split: sorted(config.glob(f"{split}-*.parquet")) for split in _splits(config)}
    schema = pyarrow.parquet.read_schema(next(iter(files.values()))[0])
    splits = SplitDict()
    for split, parts in files.items():
        rows = sum(pyarrow.parquet.read_metadata(part).num_rows for part in parts)
        splits.add(SplitInfo(split, num_bytes=sum(part.stat().st_size for part in parts), num_examples=rows))
    return DatasetInfo(config_name=config.name, features=Features.from_arrow_schema(schema), splits=splits)


def _config_entry(config: Path) -> dict:
    files = [{"split": split, "path": f"{config.name}/{split}-*.parquet"} for split in _splits(config)]
    return {"config_name": config.name, "data_files": files}


def _count_lines(config: Path) -> list[str]:
    lines = []
    for split in _splits(config):
        files = sorted(config.glob(f"{split}-*.parquet"))
        clips = [c for file in files for c in pyarrow.parquet.read_table(file, columns=["clip_id"])[0].to_pylist()]
        lines.append(f"| {config.name} | {split} | {len(clips):,} | {len(set(clips)):,} |")
    return lines


def _columns_text(configs: list[str]) -> str:
    text = """Each row has `clip_id` (`[ytid]-[start-end]`), `question` (null for captions), `answer`, `question_type`
(null where unknown), `source`, `start_s`, `end_s`; `validation` is cut out of the published training split by clip."""
    if FEATURES_CONFIG in configs:
        return text + "\nThe config `features` has each clip's log-mel, once; `descant` joins it to the rows by clip."
    return text + "\nSound is not part of this dataset, nor are features: a recipe joins a local feature store."


def _missing_text(folder: Path) -> str:
    path = folder / MISSING_FILE
    if not path.exists():
        return "Sound was not looked for: some of the recordings are no longer to be had."
    records = list(JsonLines(path).read())
    if not records:
        return "Clips without sound: none."
    reasons = Counter(record["reason"].split(":")[0] for record in records)
    counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
    return f"Clips without sound: {len(records):,} ({counted}), each with its reason in `{MISSING_FILE}`."


def _rebuild_text(facts: DatasetFacts) -> str:
    sources = ", ".join(f"[{source}](https://huggingface.co/datasets/{source})" for source in facts.sources)
    return f"Made of {sources}. To build it anew:\n\n```\n{facts.command}\n```"

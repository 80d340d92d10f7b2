"""What a model folder records of its training: datasets and clips, also those of the model it began from."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

from descant.whole_files import write_whole

DATA_FILE = "training_data.json"
CLIPS_FILE = "training_clips.txt.gz"


def write_records(
    folder: Path, datasets: list[dict[str, Any]], clips: Mapping[str, str], init_from: str | None
) -> None:
    """Write `training_data.json` (id, revision, split, licence, clips) and `training_clips.txt.gz`.

    Args:
        clips: clip id → sha256 of its features' audio.
        init_from: folder or Hub id whose own records are carried on.
    """
    earlier_data, earlier_clips = read_records(init_from) if init_from else ([], {})
    known = {json.dumps(one, sort_keys=True): one for one in [*earlier_data, *datasets]}
    write_whole(folder / DATA_FILE, (json.dumps(list(known.values()), indent=2) + "\n").encode())
    lines = "".join(f"{clip_id}\t{digest}\n" for clip_id, digest in sorted({**earlier_clips, **clips}.items()))
    write_whole(folder / CLIPS_FILE, gzip.compress(lines.encode(), mtime=0))


def read_records(source: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The datasets and clips (id → sha256) that a model was trained on; empty where it does not say."""
    data, clips = (_find(source, name) for name in (DATA_FILE, CLIPS_FILE))
    datasets = json.loads(data.read_text(encoding="utf-8")) if data else []
    lines = gzip.decompress(clips.read_bytes()).decode().splitlines() if clips else []
    return datasets, dict(line.split("\t") for line in lines)


def describe_data(
    corpus_id: str, revision: str, licence: str, clips: Iterable[str], configs: list[str]
) -> dict[str, Any]:
    """One entry of `training_data.json`."""
    return {
        "id": corpus_id, "revision": revision, "configs": configs, "split": "train", "licence": licence,
        "clips": len(set(clips)),
    }  # fmt: skip


def _find(source: str, name: str) -> Path | None:
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        return Path(hf_hub_download(source, name))
    except (EntryNotFoundError, RepositoryNotFoundError, HFValidationError):
        return None

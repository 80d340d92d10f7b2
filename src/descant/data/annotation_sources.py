"""Annotation files by path, Hub id or URL, as files on this machine."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

_URL = re.compile(r"https?://")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def locate(source: str | Path, endings: Sequence[str]) -> list[Path]:
    """The files of a source whose names end in the first of `endings` that any of them has.

    Args:
        source: a file, a folder, a URL, or the id of a Hub dataset. A single file or URL is taken whatever its name.
        endings: such as ["_short.json", ".json"], the more exact first.

    Raises:
        ValueError: nothing is there.
    """
    text, path = str(source), Path(source)
    if _URL.match(text):
        return [_download(text)]
    if path.is_file():
        return [path]
    if path.is_dir():
        names = [str(file.relative_to(path)) for file in sorted(path.rglob("*")) if file.is_file()]
        return [path / name for name in _pick(names, endings, text)]
    if not _HUB_ID.fullmatch(text):
        raise ValueError(f"{source}: no such file, folder or Hub dataset")
    return _locate_on_hub(text, endings)


def is_one_file(source: str | Path) -> bool:
    """Whether a source is a single file or URL, which is taken whatever its name."""
    return bool(_URL.match(str(source))) or Path(source).is_file()


def hash_source(source: str | Path) -> str:
    """A hash of the content of a local file or folder, of the name of a Hub dataset or URL."""
    path, digest = Path(source), hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else str(source).encode())
    return digest.hexdigest()


def _locate_on_hub(repo_id: str, endings: Sequence[str]) -> list[Path]:
    from huggingface_hub import HfApi, hf_hub_download

    from descant.publish.hub import NetworkError

    try:
        names = sorted(HfApi().list_repo_files(repo_id, repo_type="dataset"))
        picked = _pick(names, endings, repo_id)
        return [Path(hf_hub_download(repo_id, name, repo_type="dataset")) for name in picked]
    except (NetworkError, OSError) as error:
        raise ValueError(f"{repo_id}: neither a file here nor a Hub dataset that can be read: {error}") from error


def _pick(names: Sequence[str], endings: Sequence[str], source: str) -> list[str]:
    for ending in endings:
        picked = [name for name in names if name.endswith(ending)]
        if picked:
            return picked
    found = ", ".join(names[:8]) or "nothing"
    wanted = " or ".join(endings)
    raise ValueError(f"{source}: holds no file that ends in {wanted}; found {found}. Name the file itself")


def _download(url: str) -> Path:
    """datasets keeps what it fetched under a name without suffix, by which a table's kind is told."""
    from datasets import DownloadManager

    try:
        fetched = Path(DownloadManager().download(url))
    except (OSError, ValueError) as error:
        raise ValueError(f"{url}: cannot be fetched: {error}") from error
    named = fetched.with_name(fetched.name + Path(url.split("?")[0]).suffix)
    if not named.exists():
        named.symlink_to(fetched.name)
    return named

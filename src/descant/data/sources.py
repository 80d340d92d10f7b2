"""The sounds that a user names: files, folders, patterns, lists, addresses, shards and data sets."""

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from descant.data.shards import SHARD_SUFFIXES, SOUND_SUFFIXES, is_shard, list_members, suffix_of
from descant.data.sound_file import AudioError
from descant.data.storage import ask_storage, file_system, is_remote, name_source
from descant.files import read_regular
from descant.program import one_line

log = logging.getLogger(__name__)

LISTS = (".txt", ".m3u", ".m3u8")
MOST_NUMBERED = 1_000_000  # names that one `{000..999}` may stand for
_NUMBERED = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FAR_PATTERN = re.compile(r"[*?]")  # a [ is part of many a name there


def list_sounds(names: Iterable[str]) -> list[str]:
    """Return the sounds that are named, as `open_sound` takes them.

    A name is a file, a folder with all below it (without sound files, its shards), a pattern (`music/**/*.mp3`), a
    list (.txt, .m3u) with a name a line, relative to its own folder, an address (`https://`, `hf://datasets/…`,
    `s3://`, `gs://`), of which all but https:// may be folders and patterns, a shard (`shard-{000..010}.tar`,
    .parquet), or a data set: its name on the Hub. What is not there becomes an error when it is opened.

    Raises ValueError for a name that stands for no sound, and where a driver is missing.
    """
    return [sound for name in names for sound in _list_or_refuse(name)]


def _list_or_refuse(name: str) -> list[str]:
    found = list(_list_source(name))
    if not found:
        raise ValueError(f"{name_source(name)}: holds no sound files")
    return found


def names_sound(name: str) -> bool:
    """Return whether a name that is nothing here can only be that of sound: an address, a pattern, a sound file."""
    is_pattern = is_remote(name) or _FAR_PATTERN.search(name) is not None or _NUMBERED.search(name) is not None
    return is_pattern or "::" in name or suffix_of(name) in (*SOUND_SUFFIXES, *SHARD_SUFFIXES, *LISTS)


def _list_source(name: str) -> Iterator[str]:
    path, suffix = Path(name), suffix_of(name)
    if _NUMBERED.search(name) and not path.exists():
        for each in number_names(name):
            yield from _list_source(each)
    elif is_remote(name):
        yield from _list_address(name, suffix)
    elif path.is_dir():
        yield from _list_folder(path)
    elif suffix in LISTS:
        for line in read_list(path):
            yield from _list_source(line)
    elif suffix in SHARD_SUFFIXES:
        yield from _list_shard(name)
    elif glob.has_magic(name) and not path.exists():
        yield from _list_named(sorted(glob.iglob(name, recursive=True)))
    elif _HUB_ID.fullmatch(name) and not names_sound(name) and not path.exists():
        yield from _list_dataset(name)
    else:
        yield name


def _list_folder(folder: Path) -> Iterator[str]:
    listed = list_sound_files(folder)
    listed.warn(used=(*LISTS, *SHARD_SUFFIXES, ".jsonl", ".csv", ".json"))
    if listed.files:
        yield from map(str, listed.files)
        return
    for path in listed.left_out:
        is_cache = path.name.startswith("cache-")  # of `datasets`
        if path.suffix.lower() in SHARD_SUFFIXES and not is_cache:
            yield from _list_shard(str(path), named=False)


def _list_shard(shard: str, named: bool = True) -> Iterator[str]:
    """Yield the sounds of a shard; one that cannot be read is itself a sound, which then fails with the reason."""
    try:
        yield from list_members(shard)
    except AudioError as error:
        log.debug("%s", error)
        yield shard
    except ValueError:
        if named:  # of others in a folder, tables without sound are nothing unusual
            raise


def _list_named(found: Iterable[str]) -> Iterator[str]:
    """Yield those of the files that were found which are named as sound, and what is in shards."""
    for name in found:
        if suffix_of(name) in SOUND_SUFFIXES:
            yield name
        elif is_shard(name):
            yield from _list_shard(name, named=False)


def _list_address(address: str, suffix: str) -> Iterator[str]:
    """Yield the sounds at an address; what is no folder and no pattern is one, and its server is not asked yet."""
    system = file_system(address)  # a missing driver stops the job before it begins
    is_web = address.lower().startswith(("http://", "https://"))
    is_pattern = not is_web and _FAR_PATTERN.search(address) is not None
    if "::" in address:
        yield address
    elif is_shard(address) and not is_pattern:
        yield from _list_shard(address)
    elif is_web or (suffix in SOUND_SUFFIXES and not is_pattern):
        yield address
    else:
        look = system.glob if is_pattern else system.find
        try:
            found = ask_storage(partial(look, address), address)
        except AudioError as error:
            raise ValueError(str(error)) from error
        names = [system.unstrip_protocol(path) for path in sorted(found) if "/." not in path]
        yield from _list_named(names)


def _list_dataset(name: str) -> Iterator[str]:
    """Yield the sounds of a data set on the Hub: its files, as `datasets` finds them, are shards or sound files."""
    try:
        found = list_dataset_files(name)
    except ValueError as error:
        raise ValueError(f"{name}: is nothing here, and no data set that can be read: {one_line(error)}") from error
    yield from _list_named(found)


def list_dataset_files(dataset: str, config: str | None = None) -> list[str]:
    """Return the files of a Hub dataset's configuration, split after split, as `hf://` addresses of one revision.

    Raises ValueError as `hub_client.patiently`.
    """
    from datasets import load_dataset_builder

    from descant.hub_client import patiently

    builder = patiently(partial(load_dataset_builder, dataset, config), dataset)
    return [str(file) for files in (builder.config.data_files or {}).values() for file in files]


def number_names(name: str) -> Iterator[str]:
    """Yield the names that `shard-{000..010}.tar` stands for; raises ValueError for too many."""
    found = _NUMBERED.search(name)
    if found is None:
        yield name
        return
    first, last = int(found[1]), int(found[2])
    if last - first >= MOST_NUMBERED:
        raise ValueError(f"{name_source(name)}: stands for more than {MOST_NUMBERED:,} names")
    for number in range(first, last + 1):
        yield from number_names(f"{name[: found.start()]}{number:0{len(found[1])}d}{name[found.end() :]}")


def read_list(path: Path) -> Iterator[str]:
    """Yield the names that a list holds; lines that begin with # are comments. Raises ValueError."""
    try:
        lines = read_regular(path).decode("utf-8-sig", "surrogateescape").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a list of songs: {one_line(error)}") from error
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            yield line if is_remote(line) else str(path.parent / line)


@dataclass(frozen=True)
class SoundFolder:
    """The sound files of a folder and of all below, by name, and what else is there."""

    folder: Path
    files: list[Path]
    left_out: list[Path]

    def warn(self, used: Sequence[str] = ()) -> None:
        """Log how many files are left out, and the first ones' names, but for suffixes that are `used` otherwise."""
        others = [path for path in self.left_out if path.suffix.lower() not in used]
        if others:
            names = ", ".join(str(path.relative_to(self.folder)) for path in others[:3])
            more = f"{names} …" if len(others) > 3 else names
            log.warning("%s: left out %d files that are no sound by their name: %s", self.folder, len(others), more)


def list_sound_files(folder: str | Path, also: Sequence[str] = ()) -> SoundFolder:
    """List a folder and all below it by suffix (SOUND_SUFFIXES and `also`), hidden files and folders left out.

    Linked folders are followed, each folder once.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    waiting, seen = [os.fspath(folder)], set()
    for start in waiting:  # linked folders come to its end, so that what is there itself comes first
        for root, folders, names in os.walk(start, onerror=lambda error: left_out.append(Path(error.filename))):
            state = os.stat(root)
            if (state.st_dev, state.st_ino) in seen:
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders[:] = [name for name in folders if not name.startswith(".")]
            waiting += [os.path.join(root, name) for name in folders if os.path.islink(os.path.join(root, name))]
            for path in (Path(root, name) for name in names if not name.startswith(".")):
                is_sound = path.suffix.lower() in (*SOUND_SUFFIXES, *also) and os.path.isfile(path)
                (files if is_sound else left_out).append(path)
    return SoundFolder(Path(folder), sorted(files), sorted(left_out))

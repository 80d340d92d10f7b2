"""Where sounds lie: what a name stands for, and the sounds in shards.

Names are those of files, folders, patterns, lists, addresses, shards and data sets. A shard is a tar file, as
WebDataset has them, or an audio column in Parquet. Its sounds are named `shard.tar::song.mp3` and `shard.parquet::17`
(the row, from 0), and read in place, of a remote one by ranges. Arrow files, as which `datasets` writes its folders,
are read like Parquet.
"""

import glob
import io
import json
import logging
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from descant.data.sound_file import AudioError, Spans
from descant.data.storage import (
    OpenFile,
    Source,
    State,
    ask_storage,
    file_system,
    is_remote,
    name_source,
    open_source,
    split_member,
)
from descant.files import read_regular
from descant.program import one_line

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)

LISTS = (".txt", ".m3u", ".m3u8")
MOST_NUMBERED = 1_000_000  # names that one `{000..999}` may stand for
_NUMBERED = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FAR_PATTERN = re.compile(r"[*?]")  # a [ is part of many a name there

SHARD_SUFFIXES = (".tar", ".parquet", ".arrow")
# What is listed in folders and shards. Files that are named one by one are read whatever their name is.
SOUND_SUFFIXES = (
    ".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".webm", ".oga", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf",
    ".w64", ".rf64", ".mp2", ".mp4", ".m4b", ".3gp", ".aac", ".mka", ".mkv", ".weba", ".wma",
)  # fmt: skip


def list_sounds(names: Iterable[str]) -> list[str]:
    """Return the sounds that are named, as `open_sound` takes them.

    A name is a file, a folder with all below it (without sound files, its shards), a pattern (`music/**/*.mp3`), a
    list (.txt, .m3u) with a name a line, relative to its own folder, an address (`https://`, `hf://datasets/…`,
    `s3://`, `gs://`), of which all but https:// may be folders and patterns, a shard (`shard-{000..010}.tar`,
    .parquet), or a data set: its name on the Hub. What is not there becomes an error when it is opened.

    So does a folder or pattern without sound files among others that have some. Raises ValueError where no name stands
    for a sound, for an empty one, for a list that cannot be read, and where a driver is missing.
    """
    listed = [(name, list(_list_source(name))) for name in names]
    if listed and not any(found for _, found in listed):
        raise ValueError(f"{', '.join(name_source(name) for name, _ in listed)}: holds no sound files")
    return [sound for name, found in listed for sound in found or [name]]


def names_sound(name: str) -> bool:
    """Return whether a name that is nothing here can only be that of sound: an address, a pattern, a sound file."""
    is_pattern = is_remote(name) or _FAR_PATTERN.search(name) is not None or _NUMBERED.search(name) is not None
    return is_pattern or "::" in name or suffix_of(name) in (*SOUND_SUFFIXES, *SHARD_SUFFIXES, *LISTS)


def _list_source(name: str) -> Iterator[str]:
    if not name:
        raise ValueError('a path is empty; this folder is "."')
    path, suffix = Path(name), suffix_of(name)
    exists = os.path.exists(name)  # also of a name that is too long, or in a closed folder: opening it says so
    if _NUMBERED.search(name) and not exists:
        for each in number_names(name):
            yield from _list_source(each)
    elif is_remote(name):
        yield from _list_address(name, suffix)
    elif os.path.isdir(name):
        yield from _list_folder(path)
    elif suffix in LISTS:
        for line in read_list(path):
            yield from _list_source(line)
    elif suffix in SHARD_SUFFIXES:
        yield from _list_shard(name)
    elif glob.has_magic(name) and not exists:
        yield from _list_named(sorted(glob.iglob(name, recursive=True)))
    elif _HUB_ID.fullmatch(name) and not names_sound(name) and not exists:
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
        lines = re.split(r"[\r\n]+", read_regular(path).decode("utf-8-sig", "surrogateescape"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a list of songs ({error.strerror or one_line(error)})") from error
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

    Linked folders are followed, each folder once. Among the files are links to nothing, and folders that cannot be
    read: they fail with the reason when they are opened.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    waiting, seen = [os.fspath(folder)], set()
    for start in waiting:  # linked folders come to its end, so that what is there itself comes first
        for root, folders, names in os.walk(start, onerror=lambda error: files.append(Path(error.filename))):
            state = os.stat(root)
            if (state.st_dev, state.st_ino) in seen:
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders[:] = [name for name in folders if not name.startswith(".")]
            waiting += [os.path.join(root, name) for name in folders if os.path.islink(os.path.join(root, name))]
            for path in (Path(root, name) for name in names if not name.startswith(".")):
                (files if path.suffix.lower() in (*SOUND_SUFFIXES, *also) else left_out).append(path)
    return SoundFolder(Path(folder), sorted(files), sorted(left_out))


# Sounds in shards


def open_sound(source: Source) -> OpenFile:
    """Open a sound: a file as `open_source` does, or one in a shard; raises AudioError."""
    shard, member = split_member(source)
    if member is None:
        opened = open_source(source)
        if is_shard(source):
            opened.file.close()
            raise AudioError(name_source(source), _name_first(source))
        return opened
    name = name_source(source)
    try:
        return (_open_in_tar if suffix_of(shard) == ".tar" else _open_row)(shard, member, name)
    except AudioError as error:
        raise AudioError(name, error.reason) from error


def is_shard(source: Source) -> bool:
    """Return whether a source is named as a shard of sounds."""
    return suffix_of(source) in SHARD_SUFFIXES


def suffix_of(source: Source) -> str:
    """Return the suffix of a path or address, in lower case; "" for content."""
    if isinstance(source, bytes):
        return ""
    path = str(source).partition("?")[0] if is_remote(source) else str(source)
    return Path(path).suffix.lower()


def list_members(shard: str) -> Iterator[str]:
    """Yield the sounds in a shard by their names, and the shard itself last where it breaks off; raises AudioError.

    Raises ValueError for a Parquet file without an audio column.
    """
    if suffix_of(shard) == ".tar":
        members, problem = _index(shard)
        yield from (f"{shard}::{name}" for name in members if Path(name).suffix.lower() in SOUND_SUFFIXES)
        if problem:
            yield shard
        return
    yield from (f"{shard}::{row}" for row in range(_rows(shard).count))


def _name_first(shard: Source) -> str:
    """Return why a shard itself is no sound: what is wrong with it, or how its sounds are named."""
    if suffix_of(shard) == ".tar" and (problem := _index(shard)[1]):
        return problem
    first = next(iter(list_members(str(shard))), f"{shard!s}::NAME")
    return f"is a shard of sounds: name one of them, such as {name_source(first)}"


# Tar files


def _open_in_tar(shard: Source, member: str, name: str) -> OpenFile:
    """Open a member in place, without a copy of it."""
    members, problem = _index(shard)
    if member not in members:
        raise AudioError(name, f"is not in the tar file{f', which {problem}' if problem else ''}")
    start, size = members[member]
    if size == 0:
        raise AudioError(name, "is empty (0 bytes)")
    opened = open_source(shard)
    piece = Piece(opened.file, start, start + size)
    return OpenFile(cast(BinaryIO, piece), lambda: (*opened.read_state(), start))


class Piece(Spans):
    """A stretch of a file as a file object of its own; closing it closes the file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__(file, ((start, end),))

    def read(self, count: int = -1) -> bytes:
        """Return so many bytes, fewer at the end only."""
        return super().read(count if count >= 0 else self.ends[-1] - self.position)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _index(shard: Source) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Return where each member begins and how long it is, and what is wrong with the tar file; raises AudioError."""
    with open_source(shard) as opened:
        return _index_tar(shard, opened.read_state())


@lru_cache(maxsize=16)
def _index_tar(shard: Source, state: State) -> tuple[dict[str, tuple[int, int]], str | None]:
    members: dict[str, tuple[int, int]] = {}
    with open_source(shard) as opened:
        try:
            with tarfile.open(fileobj=opened.file, mode="r:") as tar:  # a compressed one cannot be looked up in
                for member in tar:
                    if member.isreg():
                        members[member.name] = member.offset_data, member.size
        except (tarfile.TarError, ValueError) as error:
            opened.read_state()  # raises the better reason
            end = opened.file.seek(0, os.SEEK_END)
            members = {name: (start, size) for name, (start, size) in members.items() if start + size <= end}
            if not members:
                raise AudioError(name_source(shard), f"is no plain tar file that can be read ({error})") from error
            return members, f"is cut short or damaged after {len(members)} files ({error})"
    return members, None


# Rows of Parquet and Arrow files


def _open_row(shard: Source, member: str, name: str) -> OpenFile:
    import pyarrow

    rows = _rows(shard)
    if not member.isascii() or not member.isdigit() or int(member) >= rows.count:
        raise AudioError(name, f"is no row: {name_source(shard)} has rows 0 to {rows.count - 1}")
    try:
        content = rows.read(int(member))
    except (pyarrow.ArrowException, OSError) as error:
        raise AudioError(name, f"cannot be read ({one_line(error)})") from error
    if not content:
        raise AudioError(name, "holds no bytes of a sound file")
    return OpenFile(io.BytesIO(content), lambda: (*rows.state, int(member)))


class Rows:
    """The audio column of a Parquet file, read row after row: a row behind the last one needs nothing again."""

    def __init__(self, shard: Source, opened: OpenFile) -> None:
        from pyarrow import parquet

        self.state = opened.read_state()
        # Its own reader of paths keeps no descriptor in this process's hands.
        source = opened.file if is_remote(shard) else str(shard)
        self.file = parquet.ParquetFile(source, pre_buffer=False, buffer_size=2**20)
        self.column = find_audio_column(self.file.schema_arrow, name_source(shard))
        self.count = self.file.metadata.num_rows
        self.last: tuple[int, bytes | None] = -1, None
        self.group = (0, 0)  # rows that `coming` began with, and where it ends
        self.coming: Iterator[Any] = iter(())
        self.lock = RLock()

    def read(self, row: int) -> bytes | None:
        """Return the sound file that a row holds, None where it holds none."""
        with self.lock:
            if row == self.last[0]:
                return self.last[1]
            if not self.last[0] < row < self.group[1] or self.last[0] < self.group[0]:
                self._start(row)
            while self.last[0] < row:
                content = next(self.coming).column(0)[0].as_py()
                content = content["bytes"] if isinstance(content, dict) else content
                self.last = self.last[0] + 1, content
            return self.last[1]

    def _start(self, row: int) -> None:
        """Begin with the row group that holds a row."""
        first = 0
        for number in range(self.file.num_row_groups):
            end = first + self.file.metadata.row_group(number).num_rows
            if row < end:
                break
            first = end
        self.group, self.last = (first, end), (first - 1, None)
        kind = self.file.schema_arrow.field(self.column).type
        column = f"{self.column}.bytes" if kind.num_fields else self.column
        self.coming = self.file.iter_batches(1, row_groups=[number], columns=[column], use_threads=False)


class ArrowRows:
    """The audio column of an Arrow file of `datasets`, which is mapped into memory."""

    def __init__(self, shard: Source, opened: OpenFile) -> None:
        import pyarrow

        if is_remote(shard):
            raise AudioError(name_source(shard), "is an Arrow file on a server: give Parquet, or fetch it")
        self.state = opened.read_state()
        table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(shard))).read_all()
        self.cells = table.column(find_audio_column(table.schema, name_source(shard)))
        self.count = len(self.cells)

    def read(self, row: int) -> bytes | None:
        """Return the sound file that a row holds, None where it holds none."""
        content = self.cells[row].as_py()
        return content["bytes"] if isinstance(content, dict) else content


def _rows(shard: Source) -> Rows | ArrowRows:
    opened = open_source(shard)
    try:
        return _keep_rows(shard, opened.read_state())
    finally:
        opened.file.close()


@lru_cache(maxsize=2)
def _keep_rows(shard: Source, state: State) -> Rows | ArrowRows:
    import pyarrow

    opened = open_source(shard)
    try:
        return (ArrowRows if suffix_of(shard) == ".arrow" else Rows)(shard, opened)
    except (pyarrow.ArrowException, OSError) as error:
        opened.read_state()  # raises the better reason
        raise AudioError(name_source(shard), f"cannot be read ({one_line(error)})") from error
    finally:
        if not is_remote(shard):
            opened.file.close()


def find_audio_column(schema: "pyarrow.Schema", name: str) -> str:
    """Return the column of sound files: the one that `datasets` calls Audio, else one of structs with `bytes`, else
    one of bytes that is called audio; raises ValueError where there is none.
    """
    import pyarrow

    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    declared = [column for column in schema.names if features.get(column, {}).get("_type") == "Audio"]
    structs = [
        field.name for field in schema
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        and features.get(field.name, {}).get("_type", "Audio") == "Audio"
    ]  # fmt: skip
    binary = (pyarrow.binary(), pyarrow.large_binary())
    plain = [field.name for field in schema if field.name == "audio" and field.type in binary]
    found = [*declared, *structs, *plain]
    if not found:
        raise ValueError(f"{name}: has no audio column (a struct with bytes, or bytes called audio)")
    return found[0]

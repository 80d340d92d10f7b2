"""Sounds in shards: the members of a tar file, as WebDataset has them, and the rows of an audio column in Parquet.

Such a sound is named by its shard: `shard.tar::song.mp3`, `shard.parquet::17` (the row, from 0). It is read in place;
a remote shard is read by ranges. `datasets` writes its folders as Arrow files, which are read here like Parquet.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from descant.data.sound_file import AudioError, Spans
from descant.data.storage import OpenFile, Source, State, is_remote, name_source, open_source, split_member
from descant.program import one_line

if TYPE_CHECKING:
    import pyarrow

SHARD_SUFFIXES = (".tar", ".parquet", ".arrow")
# What is listed in folders and shards. Files that are named one by one are read whatever their name is.
SOUND_SUFFIXES = (
    ".flac", ".wav", ".ogg", ".opus", ".mp3", ".m4a", ".webm", ".oga", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf",
    ".w64", ".rf64", ".mp2", ".mp4", ".m4b", ".3gp", ".aac", ".mka", ".mkv", ".weba", ".wma",
)  # fmt: skip


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


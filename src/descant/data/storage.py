"""Files wherever they lie: on this machine, or behind an address that fsspec can read, such as https:// or s3://.

A remote file is read by ranges, as far as it is needed, and never copied to the disk. A dropped connection is tried
again (see `hub_client.patiently`); what remains is an AudioError of one sentence. Names under which a file appears in
logs and outputs hold no user names, passwords or signatures: see `name_source`.
"""

import hashlib
import io
import logging
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeGuard, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from descant.data.sound_file import AudioError
from descant.program import one_line

if TYPE_CHECKING:
    from typing_extensions import Buffer

Source = str | Path | bytes  # a path, an address, or a file's content
State = tuple[int, ...]
Result = TypeVar("Result")

DRIVERS = {"http": "aiohttp", "https": "aiohttp", "hf": "huggingface_hub", "s3": "s3fs", "gs": "gcsfs"}
EXTRAS = {"s3": "s3", "gs": "gs"}  # scheme → extra of descant that installs its driver
NO_FILE = "is a folder, and no sound file: name the sound files in it"
STALL_S = 30.0  # without a byte, after which a connection counts as dropped
BLOCK_BYTES = 2**18  # least that is fetched; what is read in one piece is fetched in ever larger ones
MOST_BLOCKS = 16  # in one request
KEPT_BLOCKS = 512  # of a file, in memory: 128 MiB. A sound file is walked through, and then decoded
LARGEST_WHOLE_BYTES = 2**30  # of a server that sends no ranges
# What tells two versions of a file apart, in the words of the servers.
VALIDATORS = ("ETag", "etag", "Last-Modified", "LastModified", "Content-MD5", "blob_id", "generation", "md5Hash")
# Parts of an address that say who may read it, and not what it is.
SIGNATURES = re.compile(
    r"x-(amz|goog|ms|oss)-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|access_?token|token|"
    r"api_?key|sig|se|sp|sv|sr|st|spr|auth|password",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+://)[^/@]*@")
_MEMBER = re.compile(r"(.+?\.(?:tar|parquet|arrow)(?:\?.*?)?)::(.+)", re.IGNORECASE | re.DOTALL)
# Of addresses within messages of libraries: who reads, and what follows the path.
_SECRETS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)(?:[^/\s@]*@)?([^\s?#'\"]*)(?:[?#][^\s'\")]*)?")


def is_remote(source: Source) -> bool:
    """Return whether a source is an address such as `https://host/song.mp3`, and no path or content."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def is_local(source: Source) -> TypeGuard[str | Path]:
    """Return whether a source is the path of a file itself, with folders and other files beside it."""
    return not (isinstance(source, bytes) or is_remote(source) or split_member(source)[1])


def split_member(source: Source) -> tuple[Source, str | None]:
    """Divide `shard.tar::song.mp3` into the shard and the name of what lies in it, which other sources lack (None)."""
    found = None if isinstance(source, bytes) else _MEMBER.fullmatch(str(source))
    return (found[1], found[2]) if found else (source, None)


def name_source(source: Source) -> str:
    """Return the name under which a source appears in messages and outputs: a path or an address without secrets.

    Of a query, what signs an address is left out; the rest becomes a short hash, so that two sounds have two names.
    """
    source, member = split_member(source)
    name = "bytes" if isinstance(source, bytes) else str(source)
    if is_remote(source):
        name = _name_address(name)
    return name if member is None else f"{name}::{member}"


def _name_address(address: str) -> str:
    if not address.lower().startswith(("http://", "https://")):
        return _USER.sub(r"\1", address)
    parts = urlsplit(address)
    asked = [(name, value) for name, value in parse_qsl(parts.query, True) if not SIGNATURES.fullmatch(name)]
    digest = f"?{hashlib.sha256(urlencode(asked).encode()).hexdigest()[:12]}" if asked else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) + digest


def clean_message(error: BaseException) -> str:
    """Return an error's message on one line, its addresses without secrets."""
    return _SECRETS.sub(r"\1\2", one_line(error))


# Open files


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading, and what tells whether it is still the same."""

    file: BinaryIO
    read_state: Callable[[], State]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def open_source(source: Source) -> OpenFile:
    """Open a regular file, a remote one or content; raises AudioError. A pipe or device is never opened."""
    if isinstance(source, bytes):
        if not source:
            raise AudioError("bytes", "is empty (0 bytes)")
        return OpenFile(io.BytesIO(source), lambda: (len(source),))
    if is_remote(source):
        remote = RemoteFile(connect(str(source)))
        return OpenFile(cast(BinaryIO, remote), remote.read_state)
    file = _open_path(source)
    return OpenFile(file, partial(_read_state, file))


def _read_state(file: BinaryIO) -> State:
    """Return what changes when a file is written to or replaced."""
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _open_path(path: str | Path) -> BinaryIO:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder:
                os.scandir(path).close()  # or why it cannot be read
            raise AudioError(path, NO_FILE if is_folder else "is not a regular file")
        if status.st_size == 0:
            raise AudioError(path, "is empty (0 bytes)")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise AudioError(path, "does not exist") from error
    except OSError as error:  # permissions, a loop of links
        raise AudioError(path, f"cannot be opened ({error.strerror})") from error
    except ValueError as error:
        raise error if isinstance(error, AudioError) else AudioError(path, "has a NUL in its name") from error


class RemoteFile(io.RawIOBase):
    """A remote file as a file object: it seeks, and fetches what is read."""

    def __init__(self, blocks: "Blocks") -> None:
        self.blocks, self.position = blocks, 0
        self.error: AudioError | None = None  # a decoder may take a read that failed for the end

    def read_state(self) -> State:
        """Return what changes when the file does; raises the AudioError of a read that failed."""
        if self.error is not None:
            raise self.error
        return self.blocks.state

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "Buffer") -> int:
        """Fill a buffer from the position on, and return how many bytes were left; raises AudioError."""
        view = memoryview(buffer).cast("B")
        piece = self.read(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def read(self, size: int | None = -1) -> bytes:
        """Return so many bytes, fewer at the end only; raises AudioError."""
        end = self.blocks.size if size is None or size < 0 else min(self.position + size, self.blocks.size)
        try:
            piece = self.blocks.read(self.position, end)
        except AudioError as error:
            self.error = error
            raise
        self.position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, and return the new position."""
        self.position = max(0, offset + (0, self.position, self.blocks.size)[whence])
        return self.position

    def tell(self) -> int:
        """Return the position."""
        return self.position


# Remote files


class Blocks:
    """What is known of a remote file's content: blocks that were fetched, up to KEPT_BLOCKS of them."""

    def __init__(self, address: str, size: int, state: State) -> None:
        self.address, self.size, self.state = address, size, state
        self.blocks: OrderedDict[int, bytes] = OrderedDict()
        self.whole: bytes | None = None  # of a server that sends no ranges
        self.last, self.count = -1, 1  # block that was fetched last, and how many were with it
        self.lock = RLock()

    def read(self, start: int, end: int) -> bytes:
        """Return bytes [start, end) of the file; raises AudioError where they do not come."""
        if start >= end:
            return b""
        first, last = start // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        with self.lock:
            if self.whole is not None:
                return self.whole[start:end]
            pieces = [self._get(number, last) for number in range(first, last + 1)]
        if self.whole is not None:
            return self.whole[start:end]
        return b"".join(pieces)[start - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def _get(self, number: int, needed: int) -> bytes:
        if number not in self.blocks and self.whole is None:
            self._fetch(number, needed)
        if self.whole is not None:
            return b""
        self.blocks.move_to_end(number)
        return self.blocks[number]

    def _fetch(self, first: int, needed: int) -> None:
        """Fetch blocks from `first` on: twice as many as before where they follow the last ones, else one."""
        follows = first == self.last + 1
        self.count = min(MOST_BLOCKS, self.count * 2 if follows else 1)
        count = min(max(self.count, needed + 1 - first), MOST_BLOCKS)
        start, end = first * BLOCK_BYTES, min((first + count) * BLOCK_BYTES, self.size)
        content = ask_storage(partial(fetch_range, self.address, self.size, start, end), self.address)
        if content is None:
            self.whole = ask_storage(partial(fetch_whole, self.address, self.size), self.address)
            self.blocks.clear()
            return
        for offset in range(0, len(content), BLOCK_BYTES):
            self.blocks[first + offset // BLOCK_BYTES] = content[offset : offset + BLOCK_BYTES]
        self.last = (end - 1) // BLOCK_BYTES
        while len(self.blocks) > max(KEPT_BLOCKS, count):
            self.blocks.popitem(last=False)


def connect(address: str) -> Blocks:
    """Ask a server for a file's size and state, and return its blocks; raises AudioError.

    Blocks that were fetched before are kept where the server says by a hash or date that the file is still the same.
    """
    info = ask_storage(partial(_read_info, address), address)
    if info.get("type") == "directory":
        raise AudioError(name_source(address), NO_FILE)
    told = repr([(name, str(info[name])) for name in VALIDATORS if info.get(name)])
    size = info.get("size")
    if size is None:  # it comes without its length
        whole = ask_storage(partial(fetch_whole, address, None), address)
        size, told = len(whole), hashlib.sha256(whole).hexdigest()
        blocks = Blocks(address, size, _hash_state(size, told))
        blocks.whole = whole
        return blocks
    if size == 0:
        raise AudioError(name_source(address), "is empty (0 bytes)")
    return (_keep if told != "[]" else Blocks)(address, int(size), _hash_state(int(size), told))


def _hash_state(size: int, told: str) -> State:
    return size, int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big")


_keep = lru_cache(maxsize=2)(Blocks)  # one is in use while the next is opened


def _read_info(address: str) -> Mapping[str, Any]:
    return file_system(address).info(address)


def fetch_range(address: str, size: int, start: int, end: int) -> bytes | None:
    """Return bytes [start, end) of a remote file, None where the server has no ranges; raises as fsspec does."""
    known = {"size": size} if address.startswith("http") else {}
    with file_system(address).open(address, "rb", block_size=BLOCK_BYTES, cache_type="none", **known) as file:
        try:
            file.seek(start)
            content = file.read(end - start)
        except ValueError as error:
            if "range requests" in str(error):
                return None
            raise
    if len(content) != end - start:
        raise ConnectionError(f"{len(content)} of {end - start} bytes arrived")
    return content


def fetch_whole(address: str, size: int | None) -> bytes:
    """Return all of a remote file, of which its server sends no ranges; raises AudioError for one of over 1 GiB."""
    pieces, length = [], 0
    with file_system(address).open(address, "rb", block_size=0) as file:
        while length <= LARGEST_WHOLE_BYTES and (piece := file.read(2**20)):
            pieces.append(piece)
            length += len(piece)
    if length > LARGEST_WHOLE_BYTES:
        raise AudioError(
            name_source(address), f"is larger than {LARGEST_WHOLE_BYTES >> 30} GiB: fetch it, and give its path"
        )
    if length < (size or 0):
        raise ConnectionError(f"{length} of {size} bytes arrived")
    return b"".join(pieces)


def file_system(address: str) -> Any:
    """Return fsspec's file system for an address; raises ValueError for a scheme that is not read, or not here.

    Each has its own settings and credentials, from where its driver looks for them (AWS_…, HF_TOKEN, FSSPEC_…).
    """
    scheme = address.partition("://")[0].lower()
    if scheme not in DRIVERS:
        known = ", ".join(f"{name}://" for name in DRIVERS)
        raise AudioError(name_source(address), f"cannot be read: sound is read from paths and {known}")
    try:
        return _OPENERS.get(scheme, _open_other)(scheme, address)
    except ImportError as error:
        package = f"descant[{EXTRAS[scheme]}]" if scheme in EXTRAS else DRIVERS[scheme]
        reason = f"needs the package {DRIVERS[scheme]}: pip install {package}"
        raise AudioError(name_source(address), reason) from error


def _open_web(scheme: str, address: str) -> Any:
    import aiohttp
    import fsspec

    logging.getLogger("fsspec.http").setLevel(logging.INFO)  # or it writes down whole addresses
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=STALL_S, sock_read=STALL_S)
    client = {"trust_env": True, "timeout": timeout}  # proxies as the environment names them
    return fsspec.filesystem(
        "http", client_kwargs=client, encoded="%" in address, headers={"Accept-Encoding": "identity"}
    )


def _open_hub(scheme: str, address: str) -> Any:
    from huggingface_hub import HfFileSystem, constants

    return HfFileSystem(endpoint=constants.ENDPOINT)


def _open_s3(scheme: str, address: str) -> Any:
    import fsspec

    config = {"connect_timeout": STALL_S, "read_timeout": STALL_S, "retries": {"max_attempts": 0}}
    system = fsspec.filesystem("s3", config_kwargs=config, use_listings_cache=False)
    system.retries = 1  # `ask_storage` tries again
    return system


def _open_other(scheme: str, address: str) -> Any:
    import fsspec

    return fsspec.filesystem(scheme)


_OPENERS = {"http": _open_web, "https": _open_web, "hf": _open_hub, "s3": _open_s3}


# Errors


def ask_storage(call: Callable[[], Result], address: str) -> Result:
    """Return the result of a call that does nothing but speak to a server, tried again after errors that pass.

    Raises AudioError, which names the address without its secrets: missing, not allowed, broken off, silent.
    """
    from descant.hub_client import NetworkError, patiently

    name, scheme = name_source(address), address.partition("://")[0].lower()
    hub = None if scheme == "hf" else f"{scheme}://{name.partition('://')[2].split('/')[0]}"
    try:
        return patiently(partial(_explaining, call, name, scheme), name, hub=hub)
    except NetworkError as error:
        raise AudioError(name, f"cannot be fetched: {str(error).removeprefix(name).lstrip(': ')}") from None


def _explaining(call: Callable[[], Result], name: str, scheme: str) -> Result:
    """Turn what a driver raises into ConnectionError or TimeoutError, which pass, or AudioError, which does not.

    What it raised is no cause of these: its message may hold the signed address.
    """
    try:
        return call()
    except AudioError:
        raise
    except Exception as error:
        if scheme == "hf" and not _is_plain(error):
            raise  # hub_client explains it
        problem = _explain(error, name)
    raise problem


def _is_plain(error: BaseException) -> bool:
    return isinstance(error, FileNotFoundError) and error.__cause__ is None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain(error: BaseException, name: str) -> Exception:
    """Return what an error, or one that it was raised from, says: most drivers are built on aiohttp."""
    import aiohttp

    from descant.hub_client import DENIED, TRANSIENT

    for cause in _causes(error):
        if isinstance(cause, aiohttp.ClientResponseError):
            if cause.status in TRANSIENT:
                return ConnectionError(f"status {cause.status}")
            said = {404: "does not exist (404)", 410: "is gone (410)"}
            denied = f"may not be read ({cause.status}): its server asks for a login, or the address has expired"
            refused = denied if cause.status in DENIED else f"is refused by its server (status {cause.status})"
            return AudioError(name, f"cannot be fetched: it {said.get(cause.status, refused)}")
        if isinstance(cause, TimeoutError):
            return TimeoutError(f"nothing came for {STALL_S:g} s")
        if isinstance(cause, aiohttp.ClientSSLError):
            return AudioError(name, f"cannot be fetched: its certificate is not trusted ({clean_message(cause)})")
        if isinstance(cause, aiohttp.ClientPayloadError):
            return ConnectionError("its bytes did not all arrive")
        if isinstance(cause, aiohttp.InvalidURL):
            return AudioError(name, "cannot be fetched: is no address of the web")
        if isinstance(cause, aiohttp.ClientError):
            return ConnectionError(clean_message(cause))
    if isinstance(error, FileNotFoundError):
        return AudioError(name, "cannot be fetched: it does not exist (404)")
    if isinstance(error, PermissionError):
        return AudioError(name, f"cannot be fetched: it may not be read ({clean_message(error)})")
    if isinstance(error, OSError):
        return ConnectionError(clean_message(error))
    return AudioError(name, f"cannot be fetched ({type(error).__name__}: {clean_message(error)})")

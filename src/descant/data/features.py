"""The feature store: one record a clip, keyed by the settings that made it and read through a memory map.

Records lie in shards, which processes append to; an index names each record once it is whole; a published dataset
brings its records along.
"""

import fcntl
import hashlib
import json
import math
import mmap
import os
import re
import struct
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from descant.files import naming, write_whole

FEATURES_CONFIG = "features"  # of a published dataset
SETTINGS_FILE = f"{FEATURES_CONFIG}/settings.json"
SHARD_BYTES = 1 << 30
# Part of the key. Raise it when the same settings come to give another feature: by decoding, resampling or packing.
RECORD_VERSION = 1
MAGIC = b"DSF1"
HEADER_BYTES = 64  # keeps every record on a cache line, so the values can be read in place
MOST_SIZES, LARGEST_FEATURE = 8, 2**28  # of a feature_shape, and numbers in a feature
ENCODINGS = {"int16": np.int16, "float16": np.float16}
_HEADER = struct.Struct("<4sff")
_SHARD_NAME = re.compile(r"shard-[0-9a-f]{12}\.bin")
# Saved beside an extractor's settings, but of no influence on what it computes.
_BOOKKEEPING = {"auto_map", "feature_extractor_type", "processor_class", "transformers_version"}


@dataclass(frozen=True)
class IndexEntry:
    """Where a clip's record lies, with the hashes of its sound (`audio_sha256`) and of itself (`feature_sha256`)."""

    clip_id: str
    shard: str | None  # None: the record was discarded
    offset: int
    audio_sha256: str
    feature_sha256: str


class FeatureIndex:
    """Index lines as they are appended: a clip's last line counts, and lines that fail their check are remembered."""

    def __init__(self, path: Path) -> None:
        """Take the index file; `refresh` reads it."""
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.entries: dict[str, IndexEntry] = {}
        self._broken_lines: list[int] = []
        self._unfinished = b""
        self._file_id: int | None = None
        self._read_bytes = 0
        self._read_lines = 0

    def append(self, entry: IndexEntry) -> None:
        """Write an entry at the end of the file; several processes may do so at once."""
        # One write on O_APPEND never mixes with another writer's; the leading newline parts it from a torn line.
        line = b"\n" + _to_line(entry) + b"\n"
        with self._locked(fcntl.LOCK_SH) as descriptor:
            with naming(self.path):
                written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(f"{self.path}: the disk took only a part of an index line; is it full?")
        self._take(entry)

    def refresh(self) -> None:
        """Read what this and other writers appended since the last call; a line still being written waits."""
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_ino != self._file_id:  # compacted meanwhile: a new file
                    self._forget()
                    self._file_id = os.fstat(file.fileno()).st_ino
                file.seek(self._read_bytes)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text.rfind(b"\n") + 1
        self._unfinished = text[whole:]
        self._read_bytes += whole
        for line in text[:whole].split(b"\n")[:-1]:
            self._read_lines += 1
            if line:
                self._take_line(line)

    def faults(self) -> list[str]:
        """Return what is unreadable in the part read so far."""
        faults = [f"{self.path.name}:{line}: unreadable line" for line in self._broken_lines]
        return faults + ([f"{self.path.name}: cut off at the end"] if self._unfinished else [])

    def compact(self) -> None:
        """Rewrite the file with the living entries alone; writers wait, and go on in the new file."""
        with self._locked(fcntl.LOCK_EX):
            self.refresh()
            write_whole(self.path, b"".join(_to_line(entry) + b"\n" for entry in self.entries.values()))
        self.refresh()

    @contextmanager
    def _locked(self, kind: int) -> Iterator[int]:
        """Give the open file under a lock, opened again if `compact` replaced it while this waited."""
        while True:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, kind)
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    yield descriptor
                    return
            finally:
                os.close(descriptor)

    def _take_line(self, line: bytes) -> None:
        entry = _from_line(line)
        if entry is None:
            self._broken_lines.append(self._read_lines)
        else:
            self._take(entry)

    def _take(self, entry: IndexEntry) -> None:
        if entry.shard is None:
            self.entries.pop(entry.clip_id, None)
        else:
            self.entries[entry.clip_id] = entry


def _to_line(entry: IndexEntry) -> bytes:
    fields = asdict(entry)
    return json.dumps(fields | {"check": _check(fields)}).encode()


def _from_line(line: bytes) -> IndexEntry | None:
    try:
        fields = json.loads(line)
        check = fields.pop("check")
        entry = IndexEntry(**fields)
        named_well = entry.shard is None or _SHARD_NAME.fullmatch(entry.shard)
        return entry if named_well and check == _check(fields) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _check(fields: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"


class FeatureError(ValueError):
    """A feature that cannot be stored, or a stored one that is damaged."""


def record_bytes(shape: tuple[int, ...], encoding: str) -> int:
    """Return the bytes of one record on disk."""
    return HEADER_BYTES + int(np.prod(shape)) * np.dtype(ENCODINGS[encoding]).itemsize


def encode_record(values: np.ndarray, shape: tuple[int, ...], encoding: str) -> bytes:
    """Pack finite values of `shape`; raise FeatureError for others.

    int16 spreads the record's own range over 65,536 steps, so a log-mel of 160 dB range is off by at most 0.0013 dB.
    """
    values = np.asarray(values, dtype=np.float32)
    if values.shape != shape:
        raise FeatureError(f"a feature of shape {values.shape} does not fit this store's {shape}")
    if not np.isfinite(values).all():
        raise FeatureError("a feature with NaN or infinite values")
    scale, centre = _fixed_point(values) if encoding == "int16" else (np.float32(1), np.float32(0))
    if encoding == "int16":
        packed = np.rint((values - centre) / scale).clip(-32768, 32767).astype("<i2")
    else:
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise FeatureError(f"float16 cannot hold {np.abs(values).max():g}")
        packed = values.astype("<f2")
    return _HEADER.pack(MAGIC, scale, centre).ljust(HEADER_BYTES, b"\0") + packed.tobytes()


def _fixed_point(values: np.ndarray) -> tuple[np.float32, np.float32]:
    low, high = float(values.min()), float(values.max())
    return np.float32((high - low) / 65535 or 1.0), np.float32((high + low) / 2)


def decode_record(buffer: bytes | memoryview | mmap.mmap, offset: int, out: np.ndarray, encoding: str) -> np.ndarray:
    """Restore the record at `offset` of a shard into `out`, a C-contiguous float32 array of the store's shape."""
    magic, scale, centre = _HEADER.unpack_from(buffer, offset)
    if magic != MAGIC or not (math.isfinite(scale) and math.isfinite(centre)):
        raise FeatureError("the record's header is damaged")
    packed = np.frombuffer(buffer, ENCODINGS[encoding], out.size, offset + HEADER_BYTES).reshape(out.shape)
    if encoding == "float16":
        np.copyto(out, packed)
        return out
    np.multiply(packed, np.float32(scale), out=out)
    return np.add(out, np.float32(centre), out=out)


@dataclass(frozen=True)
class Damage:
    """A record that `verify` cannot vouch for; `clip_id` is None where an index line itself is unreadable."""

    clip_id: str | None
    reason: str


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return 16 hex digits of everything in `settings` that decides what a feature is."""
    return hashlib.sha256(_canonical(settings).encode()).hexdigest()[:16]


def _canonical(settings: Mapping[str, Any]) -> str:
    deciding = {key: value for key, value in settings.items() if key not in _BOOKKEEPING and not key.startswith("_")}
    return json.dumps(deciding | {"record_version": RECORD_VERSION}, sort_keys=True, separators=(",", ":"))


class FeatureStore:
    """Features under `<root>/<settings_hash>/`; picklable, and usable in any number of processes at once.

    `settings` are the feature extractor's (`to_dict()`). They name the record's shape as `feature_shape`, unless
    `shape` is given, and may name its `feature_encoding`: "int16" (the default: fixed point, for decibels) or
    "float16". Each writing process appends to a shard of its own; what others wrote appears after `refresh()`.
    """

    def __init__(self, root: str | Path, settings: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> None:
        """Open the store; its folder is made when the first record is written."""
        if shape is None and "feature_shape" not in settings:
            raise ValueError("the settings have no feature_shape; pass shape=")
        self.root = Path(root)
        self.settings = dict(settings) | {"feature_shape": list(shape or settings["feature_shape"])}
        self.shape = tuple(self.settings["feature_shape"])
        self.encoding = self.settings.setdefault("feature_encoding", "int16")
        if self.encoding not in ENCODINGS:
            raise ValueError(f"feature_encoding {self.encoding!r} is none of {', '.join(ENCODINGS)}")
        self.folder = self.root / settings_hash(self.settings)
        self.record_bytes = record_bytes(self.shape, self.encoding)
        self._begin()

    @classmethod
    def open(cls, folder: str | Path) -> "FeatureStore":
        """Open the store that lies in a `<root>/<settings_hash>` folder; raise FeatureError where there is none."""
        path = Path(folder).resolve() / "settings.json"
        settings = read_settings(path)
        _require_settings(settings, path)
        return cls(path.parent.parent, settings)

    def _begin(self) -> None:
        self._index: FeatureIndex | None = None
        self._maps: dict[str, mmap.mmap] = {}
        self._shard: tuple[int, Any] | None = None  # (process id, file being appended to)

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "settings": self.settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        FeatureStore.__init__(self, **state)

    def __contains__(self, clip_id: str) -> bool:
        return clip_id in self._entries()

    def __len__(self) -> int:
        return len(self._entries())

    def keys(self) -> Iterator[str]:
        """Give the ids of the clips that have a feature."""
        return iter(self._entries())

    def sha256(self, clip_id: str) -> str:
        """Return the hash of the clip's sound file, with `:<start>-<end>` where the clip was cut out of it."""
        return self._entry(clip_id).audio_sha256

    def feature_sha256(self, clip_id: str) -> str:
        """Return the hash of the stored record: equal for equal audio, whatever its file format or name."""
        return self._entry(clip_id).feature_sha256

    def refresh(self) -> None:
        """Take note of what other processes wrote or discarded."""
        self._opened_index().refresh()

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        """Return the clip's feature as float32, in `out` (C-contiguous, the store's shape) where it is given.

        Raises KeyError for a clip without a feature, FeatureError for a damaged record, OSError for one out of reach.
        """
        entry = self._entry(clip_id)
        if out is None:
            out = np.empty(self.shape, np.float32)
        elif out.shape != self.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"out is {out.dtype} {out.shape}; it must be contiguous float32 {self.shape}")
        try:
            return decode_record(self._map(entry), entry.offset, out, self.encoding)
        except FeatureError as error:
            raise FeatureError(f"{self.folder}: {clip_id}: {error}; run `descant features --repair`") from None

    def write(self, clip_id: str, feature: np.ndarray, audio_sha256: str) -> None:
        """Store a feature in place of the clip's earlier one; the index names it only once it is written whole."""
        self.write_record(clip_id, self.encode(feature), audio_sha256)

    def encode(self, feature: np.ndarray) -> bytes:
        """Return a feature as the bytes of a record; raise FeatureError for another shape or non-finite values."""
        return encode_record(feature, self.shape, self.encoding)

    def read_record(self, clip_id: str) -> bytes:
        """Return the stored bytes of a clip, to be written into another store of the same settings."""
        entry = self._entry(clip_id)
        return self._map(entry)[entry.offset : entry.offset + self.record_bytes]

    def write_record(self, clip_id: str, record: bytes, audio_sha256: str) -> None:
        """Store what `read_record` or `encode` gave; raise OSError, which names the shard, where the disk is full."""
        if len(record) != self.record_bytes or not record.startswith(MAGIC):
            raise FeatureError(f"{clip_id}: {len(record)} bytes that are no record of this store")
        shard = self._writable_shard()
        offset = shard.tell()
        with naming(Path(shard.name)):
            written = shard.write(record)
        if written != len(record):
            raise OSError(f"{shard.name}: the disk took only a part of a record; is it full?")
        name, digest = Path(shard.name).name, hashlib.sha256(record).hexdigest()
        self._opened_index().append(IndexEntry(clip_id, name, offset, audio_sha256, digest))

    def discard(self, clip_id: str) -> None:
        """Forget a clip, so that it is computed anew."""
        self._opened_index().append(IndexEntry(clip_id, None, 0, "", ""))

    def close(self) -> None:
        """Bring what was written to the disk and let go of the files; the store can still be used."""
        if self._shard and self._shard[0] == os.getpid():
            with naming(Path(self._shard[1].name)):
                os.fsync(self._shard[1].fileno())
                self._shard[1].close()
        self._begin()

    def verify(self) -> list[Damage]:
        """Read every record against its hash; return nothing when all is well."""
        self._check_settings()
        self.refresh()
        index = self._opened_index()
        damages = [Damage(None, reason) for reason in index.faults()]
        if not index.path.exists() and any(self.folder.glob("shard-*.bin")):
            damages.append(Damage(None, f"{index.path.name} is gone: its shards cannot be read"))
        judged = ((entry, self._damage(entry)) for entry in index.entries.values())
        return damages + [Damage(entry.clip_id, f"{entry.shard}: {reason}") for entry, reason in judged if reason]

    def repair(self) -> list[Damage]:
        """Forget what `verify` calls damaged, so that the next extraction computes it anew; return what it was."""
        damages = self.verify()
        for damage in damages:
            if damage.clip_id is not None:
                self.discard(damage.clip_id)
        if damages:
            self._opened_index().compact()
        return damages

    def manifest(self) -> list[tuple[str, str, str]]:
        """Return sorted (clip id, audio hash, feature hash): equal for equal content, however it was written."""
        return sorted((e.clip_id, e.audio_sha256, e.feature_sha256) for e in self._entries().values())

    def _damage(self, entry: IndexEntry) -> str | None:
        try:
            record = self._map(entry)[entry.offset : entry.offset + self.record_bytes]
        except FeatureError as error:
            return str(error)
        return None if hashlib.sha256(record).hexdigest() == entry.feature_sha256 else "the record was changed on disk"

    def _opened_index(self) -> FeatureIndex:
        if self._index is None:
            self._index = FeatureIndex(self.folder / "index.jsonl")
            self._index.refresh()
        return self._index

    def _entries(self) -> dict[str, IndexEntry]:
        return self._opened_index().entries

    def _entry(self, clip_id: str) -> IndexEntry:
        if clip_id not in self._entries():
            self.refresh()
        if clip_id not in self._entries():
            raise KeyError(f"{clip_id} has no feature in {self.folder}; run `descant features` first")
        return self._entries()[clip_id]

    def _map(self, entry: IndexEntry) -> mmap.mmap:
        """Return the shard's memory map, mapped anew where the file grew since."""
        name = entry.shard or ""  # an entry of the index has one
        shard = self._maps.get(name)
        if shard is None or len(shard) < entry.offset + self.record_bytes:
            shard = self._maps[name] = _map_file(self.folder / name)
        if len(shard) < entry.offset + self.record_bytes:
            raise FeatureError("the shard is cut off")
        return shard

    def _writable_shard(self) -> Any:
        process = os.getpid()
        if self._shard is not None and self._shard[0] == process:  # not that of the parent of a fork
            if self._shard[1].tell() + self.record_bytes <= SHARD_BYTES:
                return self._shard[1]
            os.fsync(self._shard[1].fileno())
        self._write_settings()
        path = self.folder / f"shard-{uuid.uuid4().hex[:12]}.bin"
        shard = open(path, "xb", buffering=0)  # noqa: SIM115 (kept open until close)
        self._shard = (process, shard)
        return shard

    def _write_settings(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "settings.json").exists():
            return self._check_settings()
        write_whole(self.folder / "settings.json", json.dumps(self.settings, indent=2, sort_keys=True) + "\n")

    def _check_settings(self) -> None:
        path = self.folder / "settings.json"
        if path.exists():
            _require_settings(read_settings(path), path)


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings that a store, or a dataset with features, was made with.

    Raises:
        FeatureError: no such file, or one that does not hold them.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FeatureError(f"{path}: no feature store: {error}") from error
    shape = settings.get("feature_shape") if isinstance(settings, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and size > 0 for size in shape):
        raise FeatureError(f"{path}: no feature store: it holds no feature_shape, a list of sizes")
    if len(shape) > MOST_SIZES or math.prod(shape) > LARGEST_FEATURE:
        raise FeatureError(f"{path}: no feature store: its feature_shape is larger than that of any feature")
    if settings.get("feature_encoding", "int16") not in list(ENCODINGS):
        raise FeatureError(f"{path}: no feature store: its feature_encoding is none of {', '.join(ENCODINGS)}")
    return settings


def _require_settings(settings: Mapping[str, Any], path: Path) -> None:
    if settings_hash(settings) != path.parent.name:
        raise FeatureError(f"{path}: does not belong to this store; it was edited or copied from another")


def _map_file(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError) as error:  # an empty file cannot be mapped
        raise FeatureError(f"{path.name} cannot be read: {error}") from error
    except OSError as error:  # no damage, and nothing to be mended by forgetting what lies there
        error.filename = str(path)
        raise


def import_features(dataset: str, store_root: str | Path, settings: Mapping[str, Any] | None = None) -> FeatureStore:
    """Return the feature store made of a dataset's config `features`: a folder or a Hub id; go on where it stopped.

    Raises ValueError where the dataset was published without features, or with others than those of `settings`.
    """
    from datasets import load_dataset

    from descant.data.tables import fetch_dataset
    from descant.hub_client import find_file, patiently

    local = Path(dataset) / SETTINGS_FILE
    path = local if local.exists() else None
    if path is None and not Path(dataset).exists():
        path = find_file(dataset, SETTINGS_FILE, kind="dataset")
    if path is None:
        raise ValueError(f"{dataset} was published without features; make them with `descant features`")
    store = FeatureStore(store_root, read_settings(path))
    if settings is not None and settings_hash(settings) != store.folder.name:
        raise ValueError(f"{dataset} was published with features of other settings than the model's")

    fetched = [str(file) for file in fetch_dataset(dataset, FEATURES_CONFIG)]
    source, files = (["parquet"], {"data_files": fetched}) if fetched else ([dataset, FEATURES_CONFIG], {})

    def fill() -> None:
        for row in load_dataset(*source, split="train", streaming=True, **files):
            clip_id, record, sound = (row.get(name) for name in ("clip_id", "record", "audio_sha256"))
            if not (isinstance(clip_id, str) and isinstance(record, bytes) and isinstance(sound, str)):
                raise FeatureError(f"{dataset}: its features hold a row without clip_id, record or audio_sha256")
            if clip_id not in store:
                store.write_record(clip_id, record, sound)

    patiently(fill, dataset)
    store.close()
    return store

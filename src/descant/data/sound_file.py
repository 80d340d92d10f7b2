"""Sound files of any kind, decoded to their real end and compared with what they announce.

FFmpeg (through PyAV) plays what it finds and does not say what it misses. So a file's structure is walked before it is
decoded (cut short? several files in one? bytes that nothing announces?), and what comes is counted and compared with
what was announced. Model folders carry a copy of this file for their pipelines: it imports nothing of its package.
"""

import logging
import math
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple

import numpy as np

try:
    import av
except ImportError:  # waveforms need no decoder
    av = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
warn_once = lru_cache(maxsize=4_096)(log.warning)  # a file may be read more than once, and has many blocks

LEAST_S = 0.5  # shorter sound says nothing about music
SILENCE_RMS = 1e-3  # -60 dBFS
CANCELLED = 0.1  # -20 dB: a mean of channels so far under the loudest one is no mix of them
LOUDEST = 100.0  # +40 dBFS: floats above it are integers stored as floats, or damage
RATES = range(1_000, 1_000_001)  # Hz; others would make days of sound out of a few bytes, or none out of many
BLOCK_S = 10  # decoded at a time; the choice of channels is made for each block
BLOCK_SAMPLES = 2**22  # in a block, over all channels: 16 MiB
TOLERANCE_S = 0.25  # encoders' padding at both ends
BROKEN_A_SECOND = 0.4  # frames of an MP3, a hundredth of all, that are left out as every player does
SLOPPY_BYTES = 128  # some recorders count a header as sound, or pad a file
STREAMED = 0x7FFF_0000  # lengths from here on mean "unknown", as written into a pipe by ffmpeg and sox
UNREADABLE = "is not sound that can be read, or is damaged"
Samples = tuple[np.ndarray, int]  # and their rate in Hz


class AudioError(ValueError):
    """A sound that cannot be used: `path` names it, `reason` says what is wrong; `silent_s`: how long it is silent."""

    def __init__(self, path: object, reason: str, silent_s: float | None = None) -> None:
        super().__init__(path, reason)
        self.path, self.reason, self.silent_s = str(path), reason, silent_s

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def _cut(reason: str) -> AudioError:
    return AudioError("", f"is cut short: {reason}; get the whole file again")  # read_blocks adds the name


# What can be heard ---------------------------------------------------------------------------------------------------
def require_sound(name: object, seconds: float, level: float) -> None:
    """Raise AudioError for sound in which nothing can be heard: under 0.5 s, or of a level (RMS) under -60 dBFS."""
    if seconds < LEAST_S:
        raise AudioError(name, f"lasts {seconds:.2g} s, and nothing can be heard in less than {LEAST_S} s")
    if level < SILENCE_RMS:
        raise AudioError(name, f"is silent: {20 * math.log10(max(level, 1e-10)):.0f} dBFS, under -60", seconds)


def measure_level(waveform: np.ndarray) -> float:
    """Return the root mean square of a float waveform (samples,)."""
    return math.sqrt(float(np.dot(waveform, waveform)) / max(1, len(waveform)))


def require_finite(name: object, channels: np.ndarray, sampling_rate: int, start_s: float = 0.0) -> None:
    """Raise AudioError, which tells the second, for samples (channels, samples) not finite or beyond +40 dBFS."""
    if channels.size == 0 or np.maximum(channels.max(), -channels.min()) <= LOUDEST:
        return  # a single NaN becomes a thousand in a resampler and silences the whole answer
    sample, channel = np.argwhere(~(np.abs(channels) <= LOUDEST).T)[0]
    value, second = float(channels[channel, sample]), math.floor(start_s + sample / sampling_rate)
    what = f"samples of {value:.3g}, and sound lies within ±1" if math.isfinite(value) else "NaN or infinite samples"
    raise AudioError(name, f"holds {what} (in the second after {second} s)")


def mix_down(name: object, channels: np.ndarray) -> np.ndarray:
    """Return the mean of (channels, samples) as (samples,), or the loudest channel where that is 20 dB louder."""
    mono = channels.mean(axis=0, dtype=np.float32)
    levels = [measure_level(channel) for channel in channels]
    if max(levels) < SILENCE_RMS or measure_level(mono) >= CANCELLED * max(levels):
        return mono
    warn_once(f"{name}: its channels cancel each other out (out of phase), so the loudest alone is heard")
    return channels[int(np.argmax(levels))]


# Decoding ------------------------------------------------------------------------------------------------------------
def read_blocks(file: BinaryIO, name: object) -> Iterator[Samples]:
    """Yield (mono float32 block of about 10 s, Hz) until nothing comes; raises AudioError.

    The last block comes after all that only the end can tell: whether the file is cut short, damaged or silent.
    """
    seconds, level, last = 0.0, 0.0, None
    try:
        for channels, rate in _gather(_read_parts(file, name)):
            if last:
                yield last
            require_finite(name, channels, rate, seconds)
            last = mix_down(name, channels), rate
            seconds, level = seconds + channels.shape[1] / rate, max(level, measure_level(last[0]))
        require_sound(name, seconds, level)
    except AudioError as error:
        raise AudioError(name, error.reason, error.silent_s) from error
    if last:
        yield last


def _read_parts(file: BinaryIO, name: object) -> Iterator[Samples]:
    """Yield float32 samples (channels, samples) and Hz; compare what came of each part with what it announced."""
    for part in find_parts(file):
        seconds, failures = 0.0, []
        with open_part(file, part) as container:
            for samples, rate, at_s in decode(container):
                if rate == 0 or (part.kind == "flac" and at_s > seconds + 1.5 / rate):  # FLAC numbers its frames
                    failures.append(seconds)
                if rate:
                    seconds += samples.shape[1] / rate
                    yield samples, rate
            announced_s = announce_s(container) if part.least_s is None else part.least_s
        slack_s = {"flac": 1e-6, "mp3": TOLERANCE_S + announced_s / 50}.get(part.kind, TOLERANCE_S)
        if seconds + slack_s < announced_s:
            raise _cut(f"{seconds:.1f} of {announced_s:.1f} s can be decoded")
        failures = [at_s for at_s in failures if at_s < seconds or part.kind not in CHUNKS]  # half a sample at the end
        broken = f"{len(failures)} pieces cannot be decoded, the first at {failures[0]:.0f} s" if failures else ""
        if broken and (part.kind != "mp3" or len(failures) > BROKEN_A_SECOND * seconds):
            raise AudioError("", f"is cut short or damaged: {broken}; get the whole file again")
        for note in filter(None, (part.note, broken)):
            warn_once(f"{name}: {note}; they are left out")


def open_part(file: BinaryIO, part: "Part") -> Any:
    """Open a part in FFmpeg, which gets its bytes and kind and no name: no playlist can make it open anything else."""
    if av is None:
        raise ImportError("reading sound files takes two packages: pip install av soxr")
    try:
        options = {"protocol_whitelist": "none", "probesize": "65536"}  # in 5 MB, it looks for DTS in a WAV
        any_tags: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        container = av.open(Spans(file, part.spans), "r", part.kind, options, **any_tags)
        codec = container.streams.audio[0].codec_context
        codec.options = {"err_detect": "crccheck+explode"} if codec.name == "flac" else {}
    except (av.FFmpegError, AttributeError, IndexError, MemoryError, ValueError) as error:  # no stream, no codec
        raise AudioError("", UNREADABLE) from error
    return container


def announce_s(container: Any) -> float:
    """Return the seconds that a header announces, rightly or not; 0 where it announces none."""
    stream = container.streams.audio[0]
    # WebM tells the length of the whole file only, and a film may go on after its sound.
    whole_s = (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
    return float(stream.duration * stream.time_base) if stream.duration else whole_s


def decode(container: Any) -> Iterator[tuple[np.ndarray, int, float]]:
    """Yield samples (channels, samples), Hz, and the second of the first one; 0 Hz for what cannot be decoded."""
    try:
        for packet in container.demux(container.streams.audio[0]):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                yield np.zeros((1, 0), np.float32), 0, 0.0
                continue
            yield from ((_read_samples(frame), frame.sample_rate, frame.time or 0.0) for frame in frames)
    except (av.FFmpegError, MemoryError) as error:
        raise AudioError("", UNREADABLE) from error


def _read_samples(frame: Any) -> np.ndarray:
    if frame.sample_rate not in RATES or frame.format.name.startswith("s64"):
        form = f"{frame.sample_rate} samples a second of format {frame.format.name}"
        raise AudioError("", f"has {form}, which cannot be read")
    samples = frame.to_ndarray()
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        floats = samples.astype(np.float32, order="C", copy=False)
    if samples.dtype == np.uint8:
        return (floats - 128) / 128
    return floats * np.float32(2.0 ** (1 - 8 * samples.itemsize)) if samples.dtype.kind == "i" else floats


def _gather(frames: Iterator[Samples]) -> Iterator[Samples]:
    """Join frames into blocks; where rate or channels change, a block ends."""
    waiting: list[np.ndarray] = []
    held, form = 0, (0, 0)
    for samples, rate in frames:
        if waiting and (form != (rate, len(samples)) or held >= min(BLOCK_S * rate, BLOCK_SAMPLES // len(samples))):
            yield np.concatenate(waiting, axis=1), form[0]
            waiting, held = [], 0
        form = (rate, len(samples))
        waiting.append(samples)
        held += samples.shape[1]
    if held:
        yield np.concatenate(waiting, axis=1), form[0]


# The structure of files ----------------------------------------------------------------------------------------------
class Part(NamedTuple):
    """One of the recordings that a file holds, most often the only one."""

    kind: str  # FFmpeg's name of the format
    spans: tuple[tuple[int, int], ...]  # the bytes [start, end) that belong to it
    least_s: float | None = 0.0  # how long it is at least, by a count that can be relied on; None: by its header
    note: str = ""  # what is to be said about it


class Spans:
    """Some stretches of a file as a file of their own."""

    def __init__(self, file: BinaryIO, spans: tuple[tuple[int, int], ...]) -> None:
        self.file, self.spans, self.position = file, spans, 0
        self.ends = [0, *accumulate(end - start for start, end in spans)]

    def read(self, count: int) -> bytes:
        """Return at most `count` bytes, none at the end."""
        if (number := bisect_right(self.ends, self.position)) == len(self.ends):
            return b""
        left = self.ends[number] - self.position
        piece = _at(self.file, self.spans[number - 1][1] - left, min(left, count))
        self.position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the stretches, and return the new position."""
        self.position = max(0, offset + (0, self.position, self.ends[-1])[whence])
        return self.position

    def tell(self) -> int:
        """Return the position."""
        return self.position


def _at(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def find_parts(file: BinaryIO) -> list[Part]:
    """Walk through a file of any kind; raises AudioError where it is cut short, or holds what nothing announces."""
    parts: list[Part] = []
    end = file.seek(0, os.SEEK_END)
    end -= 128 if end > 128 and _at(file, end - 128, 3) == b"TAG" else 0
    position = _skip_tags(file, 0, end)
    while not parts or (end - position > SLOPPY_BYTES and _at(file, position, 2**20).strip(b"\0")):  # zeros: padding
        kind = _find_kind(file, position, end)
        if kind is None:
            rest = f"is damaged, or holds {end - position} bytes more than its header announces: mend or convert it"
            raise AudioError("", rest if parts else UNREADABLE)
        part, position = WALKS.get(kind, _walk_chunks)(file, position, end, kind)
        position = _skip_tags(file, position, end)
        parts.append(part)
    return parts


def _find_kind(file: BinaryIO, position: int, end: int, frames: int = 3) -> str | None:
    """Return the kind of what begins at a position, by its first bytes, or by the frames of MP3 or AAC that follow."""
    head = _at(file, position, 12)
    kinds = (kind for magic, form, kind in MAGICS if head.startswith(magic) and form in (head[8:12], None))
    kind = "mov" if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide") else next(kinds, None)
    first = end if kind or not frames else _find_frame(file, position, min(end, position + 2**16), end, frames)
    frame = _read_frame(_at(file, first, 7))
    return frame[2][0] if frame else kind


def _skip_tags(file: BinaryIO, position: int, end: int) -> int:
    """Return the position behind ID3v2, ID3v1 and APE tags."""
    while position < end:
        head = _at(file, position, 32).ljust(32, b"\0")
        id3 = 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        lengths = {b"ID3": id3, b"TAG": 128, b"APETAGEX": 32 + int.from_bytes(head[12:16], "little")}
        length = max(lengths[magic] * head.startswith(magic) for magic in lengths)
        if not length:
            break
        position += length
    return min(position, end)


def _require_whole(length: int, held: int) -> None:
    if length > held:
        raise _cut(f"its header promises {length} bytes of sound and {max(0, held)} are there")


def _walk_chunks(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk through WAV, AIFF, CAF, W64 or WMA."""
    layout, wanted, first, inclusive, alignment = CHUNKS[kind]
    header, position, sound, wide, magic = struct.Struct(layout), start + first, None, 0, _at(file, start, 4)
    while end - position >= header.size:
        name, length = header.unpack(_at(file, position, header.size))
        body = position + header.size
        length -= header.size if inclusive and length else 0
        if name == b"ds64":  # of RF64: lengths that take more than 32 bits
            wide = int.from_bytes(_at(file, body + 8, 8), "little")
        if name == wanted:
            length = wide if wide and length == 0xFFFF_FFFF else length
            if length >= (2**62 if header.size > 8 or wide else STREAMED):
                return Part(kind, ((start, end),)), end
            _require_whole(length - SLOPPY_BYTES, end - body)
            sound = (sound or 0) + length
        elif name[0] < 32 or length < 0 or body + length > end or (position > start and name[:4] == magic):
            break
        position = min(end, body + length + -(body + length - start) % alignment)
    if sound is None:
        raise _cut("its sound does not begin")
    if sound == 0 and end - position <= SLOPPY_BYTES:
        raise AudioError("", "holds no samples")
    position = position if sound else end  # a recorder that broke off left 0
    return Part(kind, ((start, position),), None if kind == "asf" else 0.0), position


def _walk_au(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    offset, length = struct.unpack(">II", _at(file, start + 4, 8).ljust(8, b"\0"))
    stop = end if length >= STREAMED else start + offset + length
    _require_whole(stop - SLOPPY_BYTES, end)
    return Part(kind, ((start, min(stop, end)),)), min(stop, end)


def _walk_boxes(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk through MP4; another file that is joined to it begins with another `ftyp`."""
    position, seen = start, set()
    while end - position >= 8:
        length, name = struct.unpack(">I4s", _at(file, position, 8))
        length = {0: end - position, 1: int.from_bytes(_at(file, position + 8, 8), "big")}.get(length, length)
        if name in (b"mdat", b"moov", b"moof"):
            _require_whole(length, end - position)
        if length < 8 or name[0] < 32 or position + length > end or (name == b"ftyp" and b"moov" in seen):
            break
        seen.add(name)
        position += length
    if b"moov" not in seen:
        raise _cut("its index is missing")
    return Part(kind, ((start, position),), None), position


def _walk_ebml(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk through Matroska or WebM; what has no length, as in a broadcast, is walked through inside."""
    position = start
    while position < end:
        head = _at(file, position, 12).ljust(12, b"\0")
        width = 9 - head[0].bit_length()
        if width > 4 or (position > start and head.startswith(EBML)):
            break
        digits = 9 - head[width].bit_length()
        unknown = (1 << 7 * digits) - 1
        length = int.from_bytes(head[width : width + digits], "big") & unknown
        position += width + digits
        if length != unknown:
            _require_whole(length, end - position)
            position += 0 if head.startswith(EBML_SEGMENT) else length
    return Part(kind, ((start, position),), None), position


def _walk_flac(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk to the next file that is joined; decoding goes by the frames' numbers and checksums."""
    for position in range(start, end, 2**20):
        found = FLAC.search(_at(file, position, 2**20 + 8), 8 if position == start else 0)
        if found:
            end = position + found.start()
            break
    return Part(kind, ((start, end),), None), end


def _walk_ogg(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk through the pages of one link of an Ogg chain; the next begins where streams begin after other pages."""
    position, begun, stream, rate, skipped, first, last = start, False, None, 1, 0, 0, 0
    while position < end and (head := _at(file, position, 27)).startswith(b"OggS"):
        lacing = _at(file, position + 27, head[26]) if len(head) == 27 else b""
        length = 27 + len(lacing) + sum(lacing)
        if len(head) < 27 or len(lacing) < head[26] or position + length > end:
            raise _cut("its last page is broken off")
        flags, granule, serial = struct.unpack("<BqI", head[5:18])
        if flags & 2 and begun:
            break
        if flags & 2 and stream is None and (clock := _read_clock(_at(file, position + 27 + len(lacing), 40))):
            stream, (rate, skipped) = serial, clock
        elif serial == stream and granule > 0:
            first, last = first or granule, granule
        begun = begun or not flags & 2
        position += length
    first = skipped if first < 3 * rate else first  # what was recorded off a broadcast does not begin at 0
    return Part(kind, ((start, position),), (last - first) / rate), position


def _read_clock(head: bytes) -> tuple[int, int] | None:
    """Return (granules a second, granules before the sound) of a stream by its first packet; None for no sound."""
    if head.startswith(b"OpusHead"):
        return 48_000, int.from_bytes(head[10:12], "little")
    vorbis, flac = head.startswith(b"\x01vorbis"), head.startswith(b"\x7fFLAC")
    rate = vorbis * int.from_bytes(head[12:16], "little") or flac * int.from_bytes(head[27:30], "big") >> 4
    return (rate, 0) if rate else None


def _walk_frames(file: BinaryIO, start: int, end: int, kind: str) -> tuple[Part, int]:
    """Walk through MP3, MP2 or AAC frame by frame, past tags and debris."""
    position, form, seconds, debris = start, None, 0.0, 0
    spans: list[tuple[int, int]] = []
    counts = [[0, 0]]  # frames promised and there, from each Info frame on: joined files have several
    while position < end:
        frame = _read_frame(_at(file, position, 7))
        if frame is None or (frame[2] != form and not _is_chain(file, position, end, 2)):
            behind = _skip_tags(file, position, end)
            following = _find_frame(file, position + 1, end, end, 3) if behind == position else behind
            if following == end:  # tags, or a file of another kind
                break
            debris += following - position if behind == position and spans else 0
            position = following
            continue
        length, lasts, form = frame
        if position + length > end:
            debris += end - position
            break
        head = _at(file, position, min(length, 64))
        mark = max(head.find(b"Xing"), head.find(b"Info"))
        sounds = mark < 0 or any(head[6:mark])
        if sounds:
            counts[-1][1] += 1
            seconds += lasts
        else:
            counts.append([int.from_bytes(head[mark + 8 : mark + 12], "big") * (head[mark + 7] & 1), 0])
        if sounds or not spans:
            begins = spans.pop()[0] if spans and spans[-1][1] == position else position
            spans.append((begins, position + length))
        position += length
    for promised, there in counts:
        if there + 2 < promised:
            raise _cut(f"its header promises {promised} frames and {there} are there")
    note = f"{debris} bytes in it are no whole frames of sound" if debris else ""
    behind = position if _find_kind(file, position, end, frames=0) else end
    return Part(kind, tuple(spans), seconds, note), behind


def _find_frame(file: BinaryIO, position: int, limit: int, end: int, count: int) -> int:
    """Return where the next `count` frames begin that follow each other, or `end`."""
    while position < limit:
        ahead = _at(file, position, min(4_096, limit - position))
        offset = ahead.find(b"\xff")
        if offset >= 0 and _is_chain(file, position + offset, end, count):
            return position + offset
        position += offset + 1 if offset >= 0 else len(ahead)
    return end


def _is_chain(file: BinaryIO, position: int, end: int, count: int) -> bool:
    forms: set[tuple] = set()
    for _ in range(count):
        frame = _read_frame(_at(file, position, 7))
        if frame is None:
            return position == end and len(forms) == 1
        position += frame[0]
        forms.add(frame[2])
    return len(forms) == 1


def _read_frame(head: bytes) -> tuple[int, float, tuple] | None:
    """Return (bytes, seconds, form) of a frame of MP3, MP2 or AAC by its header; None where this is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3
    if layer == 4:  # none of MP3's: AAC
        length, rate = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5, head[2] >> 2 & 15
        valid = head[1] >= 0xF0 and rate < len(AAC_RATES) and length > 7
        return (length, 1_024 / AAC_RATES[rate], ("aac", rate)) if valid else None
    kbit = KBITS.get((version, layer), KBITS[2, 3])[head[2] >> 4]
    if version == 1 or layer == 1 or rate == 3 or kbit == 0:
        return None
    hertz = (44_100, 48_000, 32_000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1_152 if layer == 2 or version == 3 else 576
    return samples * 125 * kbit // hertz + (head[2] >> 1 & 1), samples / hertz, ("mp3", version, layer, rate)


FLAC = re.compile(rb"fLaC[\0\x80]\0\0\x22")
EBML, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
MAGICS = (  # what a file begins with, what it has at 8, kind
    (b"RIFF", b"WAVE", "wav"), (b"RF64", b"WAVE", "wav"), (b"FORM", b"AIFF", "aiff"), (b"FORM", b"AIFC", "aiff"),
    (b"fLaC", None, "flac"), (b"OggS", None, "ogg"), (b"caff", None, "caf"), (b".snd", None, "au"),
    (EBML, None, "matroska"), (bytes.fromhex("3026b2758e66cf11"), None, "asf"),
    (bytes.fromhex("726966662e91cf11"), None, "w64"),
)  # fmt: skip
WALKS = {
    "au": _walk_au, "mov": _walk_boxes, "matroska": _walk_ebml, "ogg": _walk_ogg, "flac": _walk_flac,
    "mp3": _walk_frames, "aac": _walk_frames,
}  # fmt: skip
CHUNKS = {  # header (name, length), the sound's name, where the first one lies, whether lengths count it, alignment
    "wav": ("<4sI", b"data", 12, False, 2),
    "aiff": (">4sI", b"SSND", 12, False, 2),
    "caf": (">4sQ", b"data", 8, False, 1),
    "w64": ("<16sQ", bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), 40, True, 8),
    "asf": ("<16sQ", bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"), 0, True, 1),
}
AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
KBITS = {  # by version (3: MPEG 1) and layer; (2, 3) are all others; 0: none, or one that the header does not tell
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0),
    (3, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}

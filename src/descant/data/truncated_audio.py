"""Tells whether a sound file holds less than its own header promises.

Decoders read what there is and do not complain, so a half-downloaded recording would be answered as if it were whole.
- WAV, AIFF: the length of the data chunk against the file's length.
- Ogg (Vorbis, Opus): the last page must be whole and say that the stream ends.
- MP3: the byte count in its Xing/Info header, which nearly every encoder writes. A constant-rate MP3 without one says
  nothing of its length, so a cut cannot be seen there.
- FLAC and CAF: the decoder fails by itself. MP4 and WebM: mp4_webm.py compares the durations.
W64, AU and RF64 are not looked at.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

STREAMED = 0x7FFF_0000  # lengths from here on mean "unknown", as written by ffmpeg and sox into a pipe
SLOPPY_BYTES = 128  # some recorders count the header itself as data
MP3_FRAME_BYTES = 1441  # the longest frame: encoders disagree about counting the header's own
OGG_PAGE_BYTES = 65_307  # the longest page
OGG_LAST_PAGE = 4


def find_missing_part(path: str | Path) -> str | None:
    """Says what the file lacks, in words for an error message, or gives None where nothing is known to be missing."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _compare(_data_chunk(file, b"data", "<I"), size, SLOPPY_BYTES)
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _compare(_data_chunk(file, b"SSND", ">I"), size, SLOPPY_BYTES)
        if head[:4] == b"OggS":
            return _missing_from_ogg(file, size)
        if head[:3] == b"ID3" or (head[0] == 0xFF and head[1:2] >= b"\xe0"):
            return _compare(_mp3_stream(file, head), size, MP3_FRAME_BYTES)
    return None


def _compare(promised: tuple[int, int] | None, size: int, tolerance: int) -> str | None:
    if promised is None:
        return None
    start, length = promised
    held = max(0, size - start)
    if length >= STREAMED or held + tolerance >= length:
        return None
    return f"its header promises {length} bytes of sound and {held} are there"


def _data_chunk(file: BinaryIO, name: bytes, length_format: str) -> tuple[int, int] | None:
    """(start, promised bytes) of the chunk that holds the samples."""
    return next((found for chunk, *found in _chunks(file, length_format) if chunk == name), None)


def _chunks(file: BinaryIO, length_format: str) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        length = struct.unpack(length_format, header[4:])[0]
        yield header[:4], position + 8, length
        position += 8 + length + length % 2


def _missing_from_ogg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - 2 * OGG_PAGE_BYTES))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return "its last page is broken off"
    segments = tail[page + 26]
    lengths = tail[page + 27 : page + 27 + segments]
    if len(lengths) < segments or len(tail) < page + 27 + segments + sum(lengths):
        return "its last page is broken off"
    return None if tail[page + 5] & OGG_LAST_PAGE else "its last page does not say that the stream ends"


def _mp3_stream(file: BinaryIO, head: bytes) -> tuple[int, int] | None:
    """(start, promised bytes) after the Xing/Info header in the first frame, which follows any ID3v2 tag."""
    start = 0
    if head[:3] == b"ID3":
        tag = [byte & 0x7F for byte in head[6:10]]
        start = 10 + sum(byte << shift for byte, shift in zip(tag, (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(64)
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    if mark < 0 or len(frame) < mark + 16:
        return None
    flags, _, length = struct.unpack(">III", frame[mark + 4 : mark + 16])
    return (start, length) if flags & 3 == 3 else None  # frames and bytes are both there, in this order

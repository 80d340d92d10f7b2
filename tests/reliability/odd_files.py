"""Sound files of many kinds, whole and odd, made as bytes: encoders, and what goes wrong with files afterwards."""

import io
import struct
from collections.abc import Iterable
from typing import Any

import av
import numpy as np
import soundfile

SECONDS = 1.2
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def music(rate: int = 44_100, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    """Return a chord with some noise, (samples, channels) float32; the channels are in phase, but not alike."""
    times = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hertz * times) for hertz in (220.0, 277.2, 329.6))
    noise = np.random.default_rng(0).standard_normal((len(times), channels))
    return (0.1 * chord[:, None] + 0.003 * noise).astype(np.float32)


# Encoders


def sf(kind: str, subtype: str | None = None, rate: int = 44_100, channels: int = 1, **settings: Any) -> bytes:
    """Return music as libsndfile writes it."""
    return sf_samples(music(rate, channels), rate, kind, subtype, **settings)


def sf_samples(
    samples: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None, **settings: Any
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, **settings)
    return file.getvalue()


class Pipe:
    """What is written into a pipe: no header can be filled in at its end."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, piece: bytes) -> int:
        self.written += piece
        return len(piece)


def ff(kind: str, codec: str, rate: int = 44_100, channels: int = 2, pipe: bool = False, **options: str) -> bytes:
    """Return music as FFmpeg writes it, into a file or into a pipe."""
    piped, file = Pipe(), io.BytesIO()
    with av.open(piped if pipe else file, "w", kind, options) as container:
        stream = container.add_stream(codec, rate=rate, layout=LAYOUTS[channels])
        stream.bit_rate = 96_000
        stream.codec_context.open()
        samples = np.ascontiguousarray(music(rate, channels).T)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUTS[channels])
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or 1_024
        resampler = av.AudioResampler(stream.format, LAYOUTS[channels], rate, frame_size=size)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return bytes(piped.written) if pipe else file.getvalue()


# Ogg


def ogg_crc(page: bytes) -> int:
    """Return the checksum of a page whose own checksum is 0: CRC-32 of polynomial 0x04C11DB7, not reflected."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C1_1DB7) & 0xFFFF_FFFF if value & 0x8000_0000 else value << 1
    return value


def split_ogg(data: bytes) -> list[bytearray]:
    """Return the pages."""
    pages, position = [], 0
    while position < len(data):
        lacing = data[position + 27 : position + 27 + data[position + 26]]
        length = 27 + len(lacing) + sum(lacing)
        pages.append(bytearray(data[position : position + length]))
        position += length
    return pages


def join_ogg(pages: Iterable[bytearray]) -> bytes:
    """Join pages, their checksums computed anew."""
    joined = b""
    for page in pages:
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
        joined += page
    return joined


def ogg_page(packets: list[bytes], granule: int, number: int, flags: int = 0) -> bytearray:
    lacing = b"".join(bytes([255] * (len(packet) // 255) + [len(packet) % 255]) for packet in packets)
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, number, 0, len(lacing))
    return bytearray(head + lacing + b"".join(packets))


def without_end_flag(data: bytes) -> bytes:
    """Return an Ogg stream as recorders of Android and of broadcasts write it: no page says that it is the last."""
    pages = split_ogg(data)
    pages[-1][5] &= ~4
    return join_ogg(pages)


def off_a_broadcast(data: bytes) -> bytes:
    """Return an Ogg stream that was on air for an hour when it began to be recorded."""
    pages = split_ogg(data)
    for page in pages:
        granule = struct.unpack_from("<q", page, 6)[0]
        if granule > 0:
            struct.pack_into("<q", page, 6, granule + 3600 * 48_000)
    return join_ogg(pages)


def without_page(data: bytes, number: int) -> bytes:
    pages = split_ogg(data)
    del pages[number]
    return join_ogg(pages)


def flac_in_ogg(data: bytes) -> bytes:
    """Return a FLAC file of one channel layout as FLAC in Ogg, a frame a page."""
    frames = split_flac(data)
    first = b"\x7fFLAC\x01\x00\x00\x01fLaC" + b"\x00" + data[5:42]  # STREAMINFO, more metadata follow
    comment = b"\x84" + (8).to_bytes(3, "big") + bytes(8)
    pages = [ogg_page([first], 0, 0, 2), ogg_page([comment], 0, 1)]
    samples = 0
    total = int.from_bytes(data[21:26], "big") & 0xF_FFFF_FFFF
    for number, frame in enumerate(frames):
        samples = min(total, samples + 4_096)
        pages.append(ogg_page([frame], samples, number + 2, 4 if number == len(frames) - 1 else 0))
    return join_ogg(pages)


# FLAC


def split_flac(data: bytes) -> list[bytes]:
    """Return the frames of a FLAC file (by PyAV's demuxer)."""
    with av.open(io.BytesIO(data), "r", "flac") as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def of_unknown_length(data: bytes) -> bytes:
    """Return a FLAC file as it is written into a pipe: its header tells no length."""
    changed = bytearray(data)
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def announcing(data: bytes, samples: int) -> bytes:
    """Return a FLAC file whose header tells another length."""
    changed = bytearray(of_unknown_length(data))
    changed[22:26] = struct.pack(">I", samples)
    return bytes(changed)


# MP3


def without_info(data: bytes) -> bytes:
    """Return an MP3 without its first frame, which tells how long the file is."""
    start = data.index(b"\xff\xfb", 200) if data[:2] == b"\xff\xfb" else data.index(data[:2], 200)
    return data[start:]


def with_info(data: bytes, frames: int | None, length: int | None) -> bytes:
    """Return an MP3 whose Info frame tells so many frames and bytes, or leaves one out."""
    mark = max(data.find(b"Xing", 0, 200), data.find(b"Info", 0, 200))
    numbers = [number for number in (frames, length) if number is not None]
    flags = (frames is not None) + 2 * (length is not None)
    body = struct.pack(f">{1 + len(numbers)}I", flags, *numbers)
    return data[: mark + 4] + body + bytes(12 - len(body)) + data[mark + 16 :]


ID3V2 = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)
ID3V1 = b"TAG" + b"a song".ljust(125, b"\0")


def picture(count: int, seed: int = 1) -> bytes:
    """Return bytes like those of a cover picture, in which the marks of MP3 frames occur by chance."""
    noise = np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8)
    noise[::97] = 0xFF
    noise[1::97] = 0xFB
    return noise.tobytes()


def ape_tag(count: int) -> bytes:
    """Return an APE tag with a picture of so many bytes, as it is put behind an MP3."""
    item = struct.pack("<II", count, 2) + b"Cover Art (Front)\0" + picture(count)
    size = len(item) + 32
    head = b"APETAGEX" + struct.pack("<IIII", 2_000, size, 1, 0xA000_0000) + bytes(8)
    foot = b"APETAGEX" + struct.pack("<IIII", 2_000, size, 1, 0x8000_0000) + bytes(8)
    return head + item + foot


def id3_tag(count: int) -> bytes:
    """Return an ID3v2 tag with a picture of so many bytes."""
    size = bytes(count >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + picture(count, 2)


# WAV


def wav_chunks(data: bytes, *, length: int | None = None, behind: bytes = b"", riff: int | None = None) -> bytes:
    """Return a WAV whose sound's chunk tells another length, with more bytes behind it."""
    mark = data.index(b"data", 12)
    told = len(data) - mark - 8 if length is None else length
    whole = bytearray(data[: mark + 4] + struct.pack("<I", told) + data[mark + 8 :] + behind)
    whole[4:8] = struct.pack("<I", len(whole) - 8 if riff is None else riff)
    return bytes(whole)


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)

"""A table of odd sound files: each is heard for as long as it is, or refused for the right reason."""

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from odd_files import (
    ID3V1,
    ID3V2,
    SECONDS,
    announcing,
    ape_tag,
    chunk,
    ff,
    flac_in_ogg,
    id3_tag,
    music,
    of_unknown_length,
    off_a_broadcast,
    picture,
    sf,
    sf_samples,
    split_flac,
    wav_chunks,
    with_info,
    without_end_flag,
    without_info,
    without_page,
)

from descant.data.audio import AudioError, load_audio, stream_windows
from descant.data.sound_file import read_blocks

# Kind → how it is made. A `~` in a name: it does not tell its length, so that a cut cannot be seen.
KINDS: dict[str, Callable[[], bytes]] = {
    "wav 44100×1": lambda: sf("WAV"),
    "wav 24 bit 96000×2": lambda: sf("WAV", "PCM_24", 96_000, 2),
    "wav 32 bit 48000×6": lambda: sf("WAV", "PCM_32", 48_000, 6),
    "wav 8 bit 11025×2": lambda: sf("WAV", "PCM_U8", 11_025, 2),
    "wav float 192000×2": lambda: sf("WAV", "FLOAT", 192_000, 2),
    "wav double 8000×1": lambda: sf("WAV", "DOUBLE", 8_000),
    "wav extensible 44100×8": lambda: sf("WAVEX", "PCM_16", 44_100, 8),
    "wav µ-law 8000×1": lambda: sf("WAV", "ULAW", 8_000),
    "wav A-law 8000×2": lambda: sf("WAV", "ALAW", 8_000, 2),
    "wav IMA ADPCM 22050×2": lambda: sf("WAV", "IMA_ADPCM", 22_050, 2),
    "wav MS ADPCM 22050×1": lambda: sf("WAV", "MS_ADPCM", 22_050),
    "wav GSM 6.10 8000×1": lambda: sf("WAV", "GSM610", 8_000),
    "wav G.721 8000×1": lambda: sf("WAV", "G721_32", 8_000),
    "wav of MP3 44100×2": lambda: ff("wav", "libmp3lame"),
    "wav through a pipe ~ 44100×2": lambda: ff("wav", "pcm_s16le", pipe=True),
    "rf64 44100×2": lambda: sf("RF64", "PCM_16", 44_100, 2),
    "w64 32000×2": lambda: sf("W64", "PCM_16", 32_000, 2),
    "aiff 44100×2": lambda: sf("AIFF", "PCM_16", 44_100, 2),
    "aiff 24 bit 48000×1": lambda: sf("AIFF", "PCM_24", 48_000),
    "aifc float 44100×2": lambda: sf("AIFF", "FLOAT", 44_100, 2),
    "aifc GSM 8000×1": lambda: sf("AIFF", "GSM610", 8_000),
    "au 44100×2": lambda: sf("AU", "PCM_16", 44_100, 2),
    "au µ-law 8000×1": lambda: sf("AU", "ULAW", 8_000),
    "au G.721 8000×1": lambda: sf("AU", "G721_32", 8_000),
    "au G.723 8000×1": lambda: sf("AU", "G723_24", 8_000),
    "au through a pipe ~ 44100×2": lambda: ff("au", "pcm_s16be", pipe=True),
    "caf 44100×2": lambda: sf("CAF", "PCM_16", 44_100, 2),
    "caf ALAC 44100×2": lambda: sf("CAF", "ALAC_16", 44_100, 2),
    "caf through a pipe ~ 44100×2": lambda: ff("caf", "pcm_s16be", pipe=True),
    "flac 44100×2": lambda: sf("FLAC", "PCM_16", 44_100, 2),
    "flac 24 bit 96000×6": lambda: sf("FLAC", "PCM_24", 96_000, 6),
    "flac of unknown length 44100×2": lambda: of_unknown_length(sf("FLAC", "PCM_16", 44_100, 2)),
    "flac in Ogg 44100×2": lambda: flac_in_ogg(sf("FLAC", "PCM_16", 44_100, 2)),
    "vorbis 44100×2": lambda: sf("OGG", "VORBIS", 44_100, 2),
    "vorbis without an end flag 44100×2": lambda: without_end_flag(sf("OGG", "VORBIS", 44_100, 2)),
    "vorbis off a broadcast 44100×2": lambda: off_a_broadcast(sf("OGG", "VORBIS", 44_100, 2)),
    "opus 48000×2": lambda: sf("OGG", "OPUS", 48_000, 2),
    "opus 16000×1": lambda: sf("OGG", "OPUS", 16_000),
    "opus without an end flag 48000×2": lambda: without_end_flag(sf("OGG", "OPUS", 48_000, 2)),
    "mp3 44100×2": lambda: sf("MP3", "MPEG_LAYER_III", 44_100, 2),
    "mp3 constant rate 48000×2": lambda: sf("MP3", "MPEG_LAYER_III", 48_000, 2, bitrate_mode="CONSTANT"),
    "mp3 variable rate 32000×2": lambda: sf("MP3", "MPEG_LAYER_III", 32_000, 2, bitrate_mode="VARIABLE"),
    "mp3 MPEG 2 22050×1": lambda: sf("MP3", "MPEG_LAYER_III", 22_050),
    "mp3 MPEG 2.5 8000×1": lambda: sf("MP3", "MPEG_LAYER_III", 8_000),
    "mp3 without Info ~ 44100×2": lambda: ff("mp3", "libmp3lame", write_xing="0"),
    "mp3 variable without Info ~ 44100×2": lambda: without_info(sf("MP3", None, 44_100, 2, bitrate_mode="VARIABLE")),
    "mp2 ~ 44100×2": lambda: ff("mp2", "mp2"),
    "mp2 ~ 24000×1": lambda: ff("mp2", "mp2", 24_000, 1),
    "aac ~ 44100×2": lambda: ff("adts", "aac"),
    "m4a 44100×2": lambda: ff("ipod", "aac"),
    "m4a ALAC 48000×2": lambda: ff("ipod", "alac", 48_000),
    "mp4 in fragments 44100×2": lambda: ff("mp4", "aac", movflags="frag_keyframe+empty_moov"),
    "mov PCM 44100×2": lambda: ff("mov", "pcm_s16le"),
    "3gp 22050×1": lambda: ff("3gp", "aac", 22_050, 1),
    "webm 48000×2": lambda: ff("webm", "libopus", 48_000),
    "webm as browsers record it 48000×2": lambda: ff("webm", "libopus", 48_000, pipe=True, live="1"),
    "mka AAC 44100×2": lambda: ff("matroska", "aac"),
    "mka through a pipe 48000×1": lambda: ff("matroska", "libopus", 48_000, 1, pipe=True),
    "wma 44100×2": lambda: ff("asf", "wmav2"),
}
UNKNOWN_LENGTH = [kind for kind in KINDS if "~" in kind]
# libsndfile puts a byte behind its last chunk, which no CAF has, so that a second file cannot be seen behind it.
REFUSED = {("caf ALAC 44100×2", "joined with itself"): "more than its header announces"}
LOSSY_S = 0.15  # encoders pad both ends, MPEG 2.5 at 8 kHz most


@cache
def make(kind: str) -> bytes:
    return KINDS[kind]()


def hear(data: bytes, folder: Path) -> float | str:
    """Return the seconds that are heard of a file, or why it is refused: alike from a path, by windows, in memory."""
    path = folder / "odd"
    path.write_bytes(data)
    try:
        length = len(load_audio(path)) / 16_000
    except AudioError as error:
        with pytest.raises(AudioError) as again:
            stream_windows(path)
        assert again.value.reason == error.reason
        return error.reason
    in_memory = sum(len(samples) / rate for samples, rate in read_blocks(io.BytesIO(data), "odd"))
    assert length == pytest.approx(in_memory, abs=0.001)
    return length


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda data: data,
    "behind a tag": lambda data: ID3V2 + data,
    "before a tag": lambda data: data + ID3V1,
    "filled up with zeros": lambda data: data + bytes(3_000),
    "joined with itself": lambda data: data + data,
    "cut in half": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file(kind: str, fault: str, tmp_path: Path) -> None:
    heard = hear(FAULTS[fault](make(kind)), tmp_path)
    if (kind, fault) in REFUSED:
        assert REFUSED[kind, fault] in str(heard), heard
    elif fault != "cut in half":
        parts = 2 if fault == "joined with itself" else 1
        assert heard == pytest.approx(parts * SECONDS, abs=parts * LOSSY_S), heard
    elif kind in UNKNOWN_LENGTH:
        assert heard == pytest.approx(SECONDS / 2, abs=LOSSY_S), heard
    else:
        assert isinstance(heard, str) and ("cut short" in heard or "damaged" in heard), heard


def stereo(left: np.ndarray, right: np.ndarray) -> bytes:
    return sf_samples(np.stack([left, right], axis=1), 44_100, "WAV", "FLOAT")


def with_sample(value: float, place: int = 30_000) -> bytes:
    samples = music(44_100, 2)
    samples[place, 1] = value
    return sf_samples(samples, 44_100, "WAV", "FLOAT")


def flipped(data: bytes, count: int = 40) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + count]) + data[middle + count :]


MONO = music(44_100)[:, 0]
WAV, MP3, OGG, FLAC = "wav 44100×1", "mp3 44100×2", "vorbis 44100×2", "flac 44100×2"
NO_INFO, OPUS, M4A, WEBM = "mp3 without Info ~ 44100×2", "opus 48000×2", "m4a 44100×2", "webm 48000×2"
UNREADABLE = "not sound that can be read"

# What is odd → the file, and the seconds that are in it or a part of the reason why it is refused.
CASES: dict[str, tuple[Callable[[], bytes], float | str]] = {
    # Joined files: all parts are heard, whatever they are
    "ogg: vorbis, then opus": (lambda: make(OGG) + make(OPUS), 2.4),
    "ogg: three links of other rates and channels": (
        lambda: make(OGG) + sf("OGG", "VORBIS", 16_000) + sf("OGG", "VORBIS", 48_000, 2), 3.6),
    "ogg: opus of two channels, then of one": (lambda: make(OPUS) + make("opus 16000×1"), 2.4),
    "ogg: a jingle first": (lambda: sf_samples(music(seconds=0.2), 44_100, "OGG", "VORBIS") + make(OGG), 1.4),
    "ogg: the second link is cut": (lambda: make(OGG) + make(OGG)[:-500], "cut short"),
    "mp3: stereo, then mono at another rate": (lambda: make(MP3) + make("mp3 MPEG 2 22050×1"), 2.4),
    "mp3: two without Info": (lambda: make(NO_INFO) + make(NO_INFO), 2.4),
    "mp3: with tags and pictures between": (
        lambda: id3_tag(40_000) + make(MP3) + ID3V1 + id3_tag(90_000) + make(MP3) + ape_tag(50_000) + ID3V1, 2.4),
    "mp3: the second one is cut": (lambda: make(MP3) + make(MP3)[:-4_000], "cut short"),
    "mp3, then ogg": (lambda: make(MP3) + make(OGG), 2.4),
    "wav, then flac, then m4a": (lambda: make(WAV) + make(FLAC)[:0] + make(M4A), 2.4),
    "wav: 16 bit, then float at another rate": (lambda: make(WAV) + make("wav float 192000×2"), 2.4),
    "flac: two rates": (lambda: make(FLAC) + make("flac 24 bit 96000×6"), 2.4),
    "m4a, then webm": (lambda: make(M4A) + make(WEBM), 2.4),
    # MP3 headers that tell too much, too little, or only a part
    "mp3: Info tells too few frames": (lambda: with_info(make(MP3), 12, None), 1.2),
    "mp3: Info tells too few frames and bytes": (lambda: with_info(make(MP3), 12, 5_000), 1.2),
    "mp3: Info tells too many frames": (lambda: with_info(make(MP3), 400, None), "cut short"),
    "mp3: Info with frames alone, cut": (lambda: with_info(make(MP3), 47, None)[:-8_000], "cut short"),
    "mp3: Info with nothing": (lambda: with_info(make(MP3), None, None), 1.2),
    "mp3: a picture in an APE tag behind": (lambda: make(NO_INFO) + ape_tag(300_000), 1.2),
    "mp3: a picture without a tag behind": (lambda: make(NO_INFO) + np.random.default_rng(4).bytes(200_000), 1.2),
    "mp3: a picture in front": (lambda: id3_tag(300_000) + make(NO_INFO), 1.2),
    "mp3: begins within a frame": (lambda: make(NO_INFO)[300:], 1.2),
    "mp3: ends within a frame": (lambda: make(NO_INFO)[:-100], 1.2),
    "mp3: zeros in front": (lambda: bytes(4_000) + make(NO_INFO), 1.2),
    "mp3: bytes between frames": (lambda: make(MP3)[:8_000] + bytes(5_000) + make(MP3)[8_000:], 1.2),
    # FLAC
    "flac: tells too little": (lambda: announcing(make(FLAC), 20_000), 1.2),
    "flac: tells too much": (lambda: announcing(make(FLAC), 200_000), "cut short"),
    "flac: one frame is missing": (lambda: make(FLAC).replace(split_flac(make(FLAC))[5], b""), "cut short"),
    "flac of unknown length: one frame is missing": (
        lambda: of_unknown_length(make(FLAC).replace(split_flac(make(FLAC))[5], b"")), "damaged"),
    "flac: damaged": (lambda: flipped(make(FLAC)), "cut short"),
    "flac of unknown length: damaged": (lambda: of_unknown_length(flipped(make(FLAC))), "damaged"),
    "flac: the last byte is missing": (lambda: make(FLAC)[:-1], "cut short"),
    # Ogg
    "ogg: a page is missing": (lambda: without_page(sf_samples(music(seconds=8), 44_100, "OGG", "VORBIS"), 4), "cut"),
    "ogg: damaged": (lambda: flipped(sf_samples(music(seconds=8), 44_100, "OGG", "VORBIS")), "cut short"),
    "opus: damaged": (lambda: flipped(sf_samples(music(48_000, 1, 8.0), 48_000, "OGG", "OPUS")), "cut short"),
    "ogg: half a page header": (lambda: make(OGG) + make(OGG)[:140][:20] * 0 + b"OggS" * 40, "cut short"),
    "ogg: bytes between pages": (lambda: make(OGG)[:4_000] + bytes(300) + make(OGG)[4_000:], "damaged"),
    # WAV headers
    "wav: tells 0xFFFFFFFF": (lambda: wav_chunks(make(WAV), length=0xFFFF_FFFF), 1.2),
    "wav: tells 0x7FFFFFFF": (lambda: wav_chunks(make(WAV), length=0x7FFF_FFFF), 1.2),
    "wav: tells 0, the recorder broke off": (lambda: wav_chunks(make(WAV), length=0), 1.2),
    "wav: tells too much": (lambda: wav_chunks(make(WAV), length=400_000), "cut short"),
    "wav: tells too little": (lambda: wav_chunks(make(WAV), length=40_000), "more than its header announces"),
    "wav: the RIFF length is wrong": (lambda: wav_chunks(make(WAV), riff=17), 1.2),
    "wav: tags behind": (
        lambda: wav_chunks(make(WAV), behind=chunk(b"LIST", bytes(999)) + chunk(b"id3 ", ID3V2)), 1.2),
    "wav: a picture chunk in front": (
        lambda: make(WAV)[:12] + chunk(b"id3 ", picture(70_001)) + make(WAV)[12:], 1.2),
    "wav: a tag in Latin-1 in front": (
        lambda: make(WAV)[:12] + chunk(b"LIST", b"INFO" + chunk(b"IART", b"caf\xe9\0")) + make(WAV)[12:], 1.2),
    "wav: a header and a picture": (
        lambda: wav_chunks(sf_samples(MONO[:0], 44_100), behind=chunk(b"id3 ", picture(90_000))), "no samples"),
    "wav: a header alone": (lambda: sf_samples(MONO[:0], 44_100), "no samples"),
    "wav: half a header": (lambda: make(WAV)[:30], "does not begin"),
    "wav: 2147483647 Hz": (lambda: make(WAV)[:24] + struct.pack("<I", 2**31 - 1) + make(WAV)[28:], "2147483647"),
    "wav: 10 Hz": (lambda: make(WAV)[:24] + struct.pack("<I", 10) + make(WAV)[28:], "10 samples a second"),
    "wav: 64 bit": (lambda: ff("wav", "pcm_s64le"), "format s64"),
    "wav: NMS ADPCM": (lambda: sf("WAV", "NMS_ADPCM_32", 8_000), "cannot be decoded"),
    # MP4 and WebM
    "m4a: the index is missing": (lambda: make(M4A)[: make(M4A).index(b"moov") - 4], "index is missing"),
    "m4a: the last byte is missing": (lambda: make(M4A)[:-1], "cut short"),
    "m4a: damaged": (lambda: flipped(make(M4A), 400), "damaged"),
    "webm: the last byte is missing": (lambda: make(WEBM)[:-1], "cut short"),
    # Nothing to hear
    "empty": (lambda: b"", "is empty"),
    "one sample": (lambda: sf_samples(MONO[:1], 44_100), "lasts"),
    "one sample at 384 kHz": (lambda: sf_samples(MONO[:1], 384_000), "lasts"),
    "0.49 s": (lambda: sf_samples(MONO[:21_600], 44_100), "lasts 0.49 s"),
    "0.5 s": (lambda: sf_samples(MONO[:22_050], 44_100), 0.5),
    "0.2 s of MP3": (lambda: sf_samples(MONO[:8_820], 44_100, "MP3"), "lasts 0.2 s"),
    "zeros": (lambda: sf_samples(0 * MONO, 44_100), "silent: -200 dBFS"),
    "-66 dBFS": (lambda: sf_samples(0.004 * MONO, 44_100, "WAV", "FLOAT"), "silent"),
    "-52 dBFS": (lambda: sf_samples(0.02 * MONO, 44_100, "WAV", "FLOAT"), 1.2),
    "out of phase": (lambda: stereo(MONO, -MONO), 1.2),
    "out of phase, nearly": (lambda: stereo(MONO, -0.9 * MONO), 1.2),
    "zeros, out of phase": (lambda: stereo(0 * MONO, -0 * MONO), "silent"),
    "a DC offset": (lambda: sf_samples(MONO + 0.4, 44_100), 1.2),
    # Samples that are none
    "NaN": (lambda: with_sample(np.nan), r"NaN or infinite samples (in the second after 0 s)"),
    "infinite": (lambda: with_sample(np.inf, 50_000), r"NaN or infinite samples (in the second after 1 s)"),
    "-infinite": (lambda: with_sample(-np.inf), "infinite"),
    "3e38": (lambda: with_sample(3e38), "holds samples of 3e+38"),
    "-3e38": (lambda: with_sample(-3e38), "holds samples of -3e+38"),
    "1e300 in doubles": (lambda: sf_samples(1e300 * music().astype(np.float64), 44_100, "WAV", "DOUBLE"), "infinite"),
    "integers as floats": (lambda: sf_samples(32_768 * MONO, 44_100, "WAV", "FLOAT"), "sound lies within ±1"),
    "floats up to 4": (lambda: sf_samples(12 * MONO, 44_100, "WAV", "FLOAT"), 1.2),
    # No sound
    "text": (lambda: b"This is not music.\n" * 200, UNREADABLE),
    "a web page": (lambda: b"<!DOCTYPE html><html><body>404</body></html>" * 50, UNREADABLE),
    "a playlist": (lambda: b"#EXTM3U\n#EXTINF:10,\nother.wav\n", UNREADABLE),
    "a list of files for FFmpeg": (lambda: b"ffconcat version 1.0\nfile other.wav\n", UNREADABLE),
    "a zip": (lambda: b"PK\x03\x04" + bytes(5_000), UNREADABLE),
    "a picture": (lambda: b"\x89PNG\r\n\x1a\n" + picture(50_000), UNREADABLE),
    "noise": (lambda: np.random.default_rng(3).bytes(200_000), UNREADABLE),
    "zeros alone": (lambda: bytes(100_000), UNREADABLE),
    "0xFF alone": (lambda: b"\xff" * 100_000, UNREADABLE),
    "an instrument (XI)": (lambda: sf("XI", "DPCM_16"), UNREADABLE),
    "samples without a header": (lambda: sf("RAW", "PCM_16"), UNREADABLE),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_odd_file(case: str, tmp_path: Path) -> None:
    build, expected = CASES[case]
    heard = hear(build(), tmp_path)
    if isinstance(expected, str):
        assert isinstance(heard, str) and expected in heard, heard
    else:
        assert heard == pytest.approx(expected, abs=LOSSY_S), heard


# Files that once went wrong, made from the embedded corpus by other programs; they lie beside the checkout.
KEPT: dict[str, float | str] = {
    "10s1.flac": 10.0, "1sample384k.wav": "lasts", "A_noxing_vbr.mp3": 10.03, "antiphase.flac": 10.0,
    "apeart_noxing.mp3": 10.03, "cat.mp3": 20.05, "chained.ogg": 20.0, "cut_framesonly.mp3": "cut short",
    "ff_vbr_pipe.mp3": 10.03, "flac.oga": 10.0, "gsm.wav": 10.0, "headeronly.wav": "holds no samples",
    "noeos.ogg": 10.0, "pipe.flac": 10.0, "xing_low.mp3": 10.0,
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_file_that_once_went_wrong(name: str, shared_dir: Path, tmp_path: Path) -> None:
    file = shared_dir / "faults" / "sound" / name
    if not file.is_file():
        pytest.skip("no odd files beside the checkout")
    heard, expected = hear(file.read_bytes(), tmp_path), KEPT[name]
    if isinstance(expected, str):
        assert isinstance(heard, str) and expected in heard, heard
    else:
        assert heard == pytest.approx(expected, abs=0.02), heard

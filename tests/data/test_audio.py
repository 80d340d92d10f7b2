"""Reading sound: formats, rates, lengths, windows, stamps; every bad file named with the reason."""

import io
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from sounds import loudest_hertz, reason, tone, write

from descant.data import audio, sound_file
from descant.data.audio import (
    AudioError,
    Window,
    format_stamp,
    hear_windows,
    load_audio,
    pick_windows,
    stream_windows,
    windows,
)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.w64", "a.au", "a.caf"])
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (48_000, 2)])
def test_formats_are_read_as_mono_at_16_khz(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    waveform = load_audio(write(tmp_path / name, 3.0, rate, channels))
    assert waveform.dtype == np.float32 and waveform.ndim == 1
    assert len(waveform) == pytest.approx(48_000, abs=1_200)  # MP3 pads
    assert loudest_hertz(waveform) == pytest.approx(440, abs=1)


def test_opus_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.opus", 3.0, 48_000, 2, format="OGG", subtype="OPUS")
    assert loudest_hertz(load_audio(path)) == pytest.approx(440, abs=1)


def test_eight_channels_at_192_khz_are_mixed_and_resampled(tmp_path: Path) -> None:
    waves = tone(2.0, 192_000) * np.arange(8, dtype=np.float32) / 8
    soundfile.write(tmp_path / "a.flac", waves, 192_000)
    waveform = load_audio(tmp_path / "a.flac")
    assert len(waveform) == 32_000
    assert np.abs(waveform).max() == pytest.approx(0.25 * 3.5 / 8, rel=0.05)


def test_reading_in_blocks_is_reading_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", 2.5, 44_100, 2)
    whole = load_audio(path)
    monkeypatch.setattr(sound_file, "BLOCK_SAMPLES", 1_000)
    assert np.array_equal(load_audio(path), whole)
    mono = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    assert np.array_equal(audio.resample(mono, 44_100), whole)


def test_half_an_hour_is_streamed_in_bounded_memory(tmp_path: Path) -> None:
    path, minute = tmp_path / "long.wav", tone(60.0, 16_000, 2)
    with soundfile.SoundFile(path, "w", 16_000, 2) as file:
        for _ in range(30):
            file.write(minute)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = [(window.start_s, window.end_s) for window in stream_windows(path)]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert found == [(10 * i, 10 * i + 10) for i in range(180)]
    assert grown < 48 * 1024  # KiB; as a waveform it is 110 MiB


def test_windows_include_the_last_partial_one() -> None:
    waveform = np.arange(25 * 16_000, dtype=np.float32)
    found = windows(waveform)
    assert [(window.start_s, window.end_s) for window in found] == [(0, 10), (10, 20), (20, 25)]
    assert np.array_equal(np.concatenate([window.samples for window in found]), waveform)
    assert isinstance(found[0], Window)


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 1), (10.0, 1), (10.5, 2), (20.0, 2), (60.0, 6)])
def test_streamed_windows_are_the_windows_of_the_whole(tmp_path: Path, seconds: float, count: int) -> None:
    path = write(tmp_path / "a.wav", seconds, 22_050)
    streamed, whole = list(stream_windows(path)), windows(load_audio(path))
    assert len(streamed) == len(whole) == count
    for one, other in zip(streamed, whole, strict=True):
        assert (one.start_s, one.end_s) == (other.start_s, other.end_s)
        assert np.array_equal(one.samples, other.samples)


@pytest.mark.parametrize(("seconds", "times"), [(10.0, 1), (60.0, 2)])
def test_a_short_file_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, times: int
) -> None:
    path, read, decoded = write(tmp_path / "a.wav", seconds, 22_050), audio.read_blocks, []
    monkeypatch.setattr(audio, "read_blocks", lambda file, name: decoded.append(name) or read(file, name))
    list(stream_windows(path))
    assert len(decoded) == times


@pytest.mark.parametrize(
    ("start", "end", "stamp"),
    [
        (0, 10, "0:00–0:10"),
        (10.0, 20.0, "0:10–0:20"),
        (60, 70, "1:00–1:10"),
        (50, 59.947, "0:50–0:59.95"),
        (50, 59.999, "0:50–1:00"),
        (10, 12.5, "0:10–0:12.5"),
        (3590, 3600, "59:50–1:00:00"),
        (36000, 36010, "10:00:00–10:00:10"),
    ],
)
def test_stamps_are_minutes_and_seconds(start: float, end: float, stamp: str) -> None:
    assert format_stamp(start, end) == stamp


def test_missing_directory_empty_and_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.mp3").write_text("This is not music.\n" * 100)
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 20)
    assert reason(tmp_path / "absent.wav") == "does not exist"
    assert "is a folder" in reason(tmp_path)
    assert reason(tmp_path / "empty.wav") == "is empty (0 bytes)"
    assert "not sound" in reason(tmp_path / "text.mp3")
    assert "not sound" in reason(tmp_path / "noise.raw")
    assert reason("nul\0in.wav") == "has a NUL in its name"


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert reason(tmp_path / "pipe.wav") == "is not a regular file"


@pytest.mark.parametrize("name", ["list.mp3", "list.m4a", "list.webm", "list.wav"])
def test_a_playlist_under_another_name_opens_nothing(tmp_path: Path, name: str) -> None:
    secret = write(tmp_path / "secret.wav")
    (tmp_path / name).write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n")
    assert "not sound" in reason(tmp_path / name)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path, bad: float) -> None:
    wave = tone(3.0, 16_000, 2)
    wave[-1, 1] = bad
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    assert "NaN or infinite" in reason(tmp_path / "a.wav")


def test_a_header_without_samples_is_refused(tmp_path: Path) -> None:
    assert reason(write(tmp_path / "a.wav", 0.0)) == "holds no samples"


def test_reading_sound_does_not_import_torch() -> None:
    code = "import sys, descant.data.audio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_recordings_are_read(shared_dir: Path) -> None:
    assert len(load_audio(shared_dir / "data/audio/electronic.mp3")) == 959_158
    assert [window.end_s for window in stream_windows(shared_dir / "data/audio/orchestra.wav")][:3] == [10, 20, 30]


def write_with_av(path: Path, seconds: float = 12.0) -> Path:
    codec = "aac" if path.suffix == ".m4a" else "libopus"
    with av.open(str(path), "w", options={"movflags": "faststart"} if codec == "aac" else {}) as container:
        stream = container.add_stream(codec, rate=48_000)
        frame = av.AudioFrame.from_ndarray(tone(seconds, 48_000).T.copy(), format="flt", layout="mono")
        frame.rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_mp4_and_webm_are_read(tmp_path: Path, name: str) -> None:
    waveform = load_audio(write_with_av(tmp_path / name))
    assert len(waveform) == pytest.approx(12 * 16_000, abs=2_000)
    assert loudest_hertz(waveform) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_mp4_and_webm_cut_short_are_refused(tmp_path: Path, name: str) -> None:
    path = write_with_av(tmp_path / name)
    os.truncate(path, path.stat().st_size // 2)
    reason(path)


SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000).astype(np.float32)


def save(path: Path, waveform: np.ndarray) -> Path:
    np.save(path, waveform)
    return path


def test_zeros_up_to_thirty_seconds_are_padding(tmp_path: Path) -> None:
    path = save(tmp_path / "[abc]-[0-10].npy", np.pad(SOUND, (0, 320_000)))
    assert np.array_equal(load_audio(path), SOUND)


def test_zeros_behind_sound_of_another_length_are_kept(tmp_path: Path) -> None:
    assert len(load_audio(save(tmp_path / "a.npy", np.pad(SOUND, (0, 1_000))))) == 161_000


def test_one_row_is_a_waveform_and_other_rates_are_resampled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", SOUND[None].astype(np.float64))
    assert load_audio(path).dtype == np.float32 and len(load_audio(path, 24_000)) == 240_000


@pytest.mark.parametrize(
    ("waveform", "said"),
    [
        (np.zeros(480_000, np.float32), "lasts 0 s"),
        (np.zeros(16_000, np.float32), "silent"),
        (np.zeros(0, np.float32), "lasts 0 s"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.full(16_000, 1e30, np.float32), "1e[+]30"),
        (np.zeros(100, np.int16), "int16"),
        (np.zeros((2, 100), np.float32), "shape"),
        (np.array([{"a": 1}], dtype=object), "no .npy array"),
    ],
)
def test_what_is_no_waveform_is_told(tmp_path: Path, waveform: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        load_audio(save(tmp_path / "a.npy", waveform))


def test_a_file_cut_short_or_absent_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", SOUND)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudioError, match="no .npy array"):
        load_audio(path)
    with pytest.raises(AudioError, match="absent"):
        load_audio(tmp_path / "absent.npy")


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.caf"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str, kept: float) -> None:
    kwargs = {"format": "OGG", "subtype": "OPUS"} if name == "a.opus" else {}
    path = write(tmp_path / name, 20.0, 48_000, 2, **kwargs)
    load_audio(path)
    os.truncate(path, round(path.stat().st_size * kept))
    said = reason(path)
    assert "cut short" in said or "damaged" in said


def test_a_cut_behind_an_id3_tag_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", 20.0)
    tagged = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + path.read_bytes()
    path.write_bytes(tagged)
    load_audio(path)
    path.write_bytes(tagged[: len(tagged) // 2])
    assert "cut short" in reason(path)


@pytest.mark.parametrize("length", [0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_written_into_a_pipe_is_whole(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a.wav", 1.0, 16_000)
    header = bytearray(path.read_bytes())
    header[4:8] = header[40:44] = struct.pack("<I", length)
    path.write_bytes(header)
    assert len(load_audio(path)) == 16_000


def test_a_real_mp3_cut_short_is_refused(shared_dir: Path, tmp_path: Path) -> None:
    whole = (shared_dir / "data/audio/electronic.mp3").read_bytes()
    (tmp_path / "half.mp3").write_bytes(whole[: len(whole) // 2])
    assert "cut short" in reason(tmp_path / "half.mp3")


# Files that change while they are read


def rewrite(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:50_000] + bytes(len(data) - 50_000))


CHANGES = {
    "cut": lambda path: os.truncate(path, 300_000),
    "grown": lambda path: path.write_bytes(path.read_bytes() + bytes(900_000)),
    "rewritten in its length": rewrite,
    "replaced by another": lambda path: write(path.with_suffix(".new"), 30.0, format="WAV").replace(path),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after", [0, 1])
def test_a_file_that_changes_while_its_windows_are_read_is_named(tmp_path: Path, change: str, after: int) -> None:
    path = write(tmp_path / "a.wav", 60.0, 22_050)
    stream = stream_windows(path)
    if after == 0:
        CHANGES[change](path)
    given = iter(stream)
    if after:
        next(given)
        CHANGES[change](path)
    if after and change == "replaced by another":
        assert len(list(given)) == 5  # of the file that is open: the new one is never looked at
        return
    with pytest.raises(AudioError, match="a.wav: changed while it was read"):
        for number, _ in enumerate(given):
            assert number < 2  # of five: those that were decoded before


def test_a_file_that_is_cut_while_it_is_read_once_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 60.0, 22_050)
    blocks = audio.stream_audio(path)
    next(blocks)
    os.truncate(path, 1_000_000)
    with pytest.raises(AudioError, match="changed while it was read"):
        list(blocks)


# What can be heard in windows


@pytest.mark.parametrize(("seconds", "ends"), [(20.4, [10, 20]), (20.5, [10, 20, 20.5]), (0.6, [0.6])])
def test_a_last_window_under_half_a_second_is_none(tmp_path: Path, seconds: float, ends: list[float]) -> None:
    path = write(tmp_path / "a.wav", seconds, 16_000)
    assert [window.end_s for window in stream_windows(path)] == ends
    assert [window.end_s for window in windows(load_audio(path))] == ends


@pytest.mark.parametrize(("rate", "samples"), [(32_000, 640_001), (96_000, 1_920_003), (44_100, 1_080_450)])
def test_the_number_of_windows_is_known_beforehand(tmp_path: Path, rate: int, samples: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(samples / rate, rate)[:samples], rate)
    stream = stream_windows(tmp_path / "a.wav")
    assert len(stream) == len(list(stream))


def test_silence_is_refused_and_a_silent_window_says_so(tmp_path: Path) -> None:
    wave = tone(30.0, 16_000)
    wave[160_000:320_000] *= 0.001
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    said = [window.silence for window in stream_windows(tmp_path / "a.wav")]
    assert said == [None, "is silent: -75 dBFS, under -60", None]
    soundfile.write(tmp_path / "b.wav", 0.001 * tone(30.0, 16_000), 16_000, subtype="FLOAT")
    assert reason(tmp_path / "b.wav") == "is silent: -75 dBFS, under -60"


# Windows of whole tracks


TRACK_S = 67.3


def melody(seconds: float, rate: int) -> np.ndarray:
    """Return sound that is nowhere like elsewhere."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * (200 + 4 * times) * times)).astype(np.float32)


@cache
def make_track(kind: str, seconds: float = TRACK_S) -> bytes:
    """Return a track of a kind whose header tells its length rightly, wrongly or not at all."""
    if kind == "two rates":
        halves = [encode(melody(seconds / 2, rate), rate, "FLAC") for rate in (22_050, 32_000)]
        return b"".join(halves)
    data = bytearray(encode(melody(seconds, 22_050), 22_050, kind.split()[0]))
    if kind == "FLAC of unknown length":
        data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    if kind == "MP3 with a wrong length":
        mark = data.index(b"Xing") if b"Xing" in data[:200] else data.index(b"Info")
        data[mark + 8 : mark + 12] = struct.pack(">I", 700)
    return bytes(data)


def encode(samples: np.ndarray, rate: int, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def write_track(path: Path, kind: str, seconds: float = TRACK_S) -> Path:
    path.write_bytes(make_track(kind, seconds))
    return path


SEEKING = ("WAV", "FLAC")
TRACKS = (*SEEKING, "MP3", "AIFF", "FLAC of unknown length", "MP3 with a wrong length", "two rates")


@pytest.mark.parametrize("kind", TRACKS)
@pytest.mark.parametrize("count", [1, 4, 12])
def test_windows_that_are_heard_of_a_track_are_those_of_the_whole(tmp_path: Path, kind: str, count: int) -> None:
    path = write_track(tmp_path / "a.sound", kind)
    whole = load_audio(path)
    track = hear_windows(path, count)
    assert track.duration_s == pytest.approx(len(whole) / 16_000, abs=0.001) == pytest.approx(TRACK_S, abs=0.1)
    assert len(track.windows) == min(count, 7)
    for window in track.windows:
        first = round(window.start_s * 16_000)
        differs = np.abs(window.samples - whole[first : first + len(window.samples)]).max()
        assert differs < (0.15 if kind == "two rates" else 1e-3)  # the second begins between two samples
    lasting = [window.end_s - window.start_s for window in track.windows]
    assert lasting[:-1] == pytest.approx([10] * (len(lasting) - 1)) and lasting[-1] > 7


def test_windows_are_spread_evenly(tmp_path: Path) -> None:
    track = hear_windows(write_track(tmp_path / "a.wav", "WAV"), 4)
    assert [window.start_s for window in track.windows] == [0, 20, 40, 60]
    with pytest.raises(ValueError, match="hear is 0: give how many"):
        hear_windows(tmp_path / "a.wav", 0)
    with pytest.raises(ValueError, match="hear is 0: give how many"):
        pick_windows(list(track.windows), 0, 16_000, 10.0)


@pytest.mark.parametrize("count", [None, 12])
@pytest.mark.parametrize(("seconds", "starts"), [(8.0, [0]), (14.0, [0, 4]), (64.4, [0, 10, 20, 30, 40, 50, 54.4])])
def test_a_short_last_window_is_the_last_ten_seconds(
    tmp_path: Path, count: int | None, seconds: float, starts: list[float]
) -> None:
    path = write_track(tmp_path / "a.wav", "WAV", seconds)
    track = hear_windows(path, count)
    assert [window.start_s for window in track.windows] == pytest.approx(starts)
    last = list(track.windows)[-1]
    assert last.end_s == pytest.approx(seconds) == pytest.approx(track.duration_s)
    assert np.abs(last.samples - load_audio(path)[-len(last.samples) :]).max() < 1e-3


@pytest.mark.parametrize("kind", TRACKS)
def test_only_what_is_heard_is_decoded_where_the_index_can_be_trusted(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, decode, seconds = write_track(tmp_path / "a.sound", kind), sound_file.decode, []

    def count(container: object) -> Iterator[tuple[np.ndarray, int, float]]:
        for samples, rate, at_s in decode(container):
            seconds.append(samples.shape[1] / rate)
            yield samples, rate, at_s

    monkeypatch.setattr(audio, "decode", count)
    monkeypatch.setattr(sound_file, "decode", count)
    hear_windows(path, 2)
    assert (sum(seconds) < 40) == (kind in SEEKING)
    assert sum(seconds) < (70 if kind in ("MP3", "AIFF") else 140)  # once where the header is right


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_a_track_that_is_cut_gives_no_window(tmp_path: Path, kind: str) -> None:
    path = write_track(tmp_path / "a.sound", kind)
    os.truncate(path, path.stat().st_size * 9 // 10)
    with pytest.raises(AudioError, match="cut short|damaged"):
        hear_windows(path, 4)

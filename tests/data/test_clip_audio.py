"""Each source of a clip's sound gives exactly the annotated window."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from descant.data.annotations import Row
from descant.data.audio import AudioError
from descant.data.clip_audio import ClipColumn, ClipFile, ClipWaveform, find_clip_files, find_own_files

RATE = 16000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE)).astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int = RATE) -> str:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return str(path)


def row(clip_id: str = "[abc]-[3-5]", start_s: float = 3, end_s: float = 5, audio: str | None = None) -> Row:
    return Row(clip_id, None, "a song", None, "musiccaps", start_s, end_s, "train", audio)


def load(clip) -> np.ndarray:
    return clip.load(RATE, 10.0)[0]


def test_whole_recording_is_cut_to_the_annotated_window(tmp_path):
    samples = noise(8)
    clip = ClipFile(wav(tmp_path / "abc.wav", samples), 3, 5)
    np.testing.assert_array_equal(load(clip), samples[3 * RATE : 5 * RATE])


def test_recording_that_ends_just_before_the_annotated_end_is_still_cut(tmp_path):
    samples = noise(4.9)
    np.testing.assert_array_equal(load(ClipFile(wav(tmp_path / "a.wav", samples), 3, 5)), samples[3 * RATE :])


def test_file_shorter_than_the_annotated_end_is_the_clip_itself(tmp_path):
    samples = noise(2)
    np.testing.assert_array_equal(load(ClipFile(wav(tmp_path / "abc.wav", samples), 3, 5)), samples)


@pytest.mark.parametrize("as_npy", [False, True])
@pytest.mark.parametrize(("start_s", "end_s"), [(0, 10), (10, 20), (20, 30), (3, 8)])
def test_windows_of_an_own_recording_are_where_they_say(tmp_path, as_npy, start_s, end_s):
    samples = noise(25)
    wav(tmp_path / "song.wav", samples)
    np.save(tmp_path / "song.npy", samples)
    audio = str(tmp_path / ("song.npy" if as_npy else "song.wav"))
    (clip,) = find_own_files([row("song", start_s, end_s, audio)]).values()
    np.testing.assert_array_equal(load(clip), samples[start_s * RATE : end_s * RATE])


@pytest.mark.parametrize("seconds", [24, 20.5, 14])
def test_window_that_a_recording_does_not_hold_is_refused(tmp_path, seconds):
    clip = ClipFile(wav(tmp_path / "song.wav", noise(seconds)), 24, 34)
    with pytest.raises(AudioError, match=f"is {seconds:g} s long and does not hold 24 to 34 s"):
        load(clip)


def test_own_recording_that_is_hardly_longer_than_a_window_gives_no_clip_of_its_few_last_samples(tmp_path):
    with pytest.raises(AudioError, match=r"is 10\.4 s long"):
        load(ClipFile(wav(tmp_path / "song.wav", noise(10.4)), 10, 20))


def test_clip_named_by_its_recording_may_begin_within_its_own_length(tmp_path):
    samples = noise(10)
    wav(tmp_path / "abc.wav", samples)
    clip = find_clip_files([row("[abc]-[4-14]", 4, 14)], tmp_path)["[abc]-[4-14]"]
    np.testing.assert_array_equal(load(clip), samples)
    np.testing.assert_array_equal(load(ClipFile(clip.path, 4, 14)), samples[4 * RATE :])


def test_file_named_as_the_clip_is_never_cut_inside(tmp_path):
    samples = noise(8)
    wav(tmp_path / "[abc]-[3-5].wav", samples)
    clip = find_clip_files([row()], tmp_path)["[abc]-[3-5]"]
    np.testing.assert_array_equal(load(clip), samples[: 2 * RATE])


def test_no_more_than_the_window_is_heard(tmp_path):
    assert len(ClipFile(wav(tmp_path / "a.wav", noise(3)), 0, 3).load(RATE, 1.0)[0]) == RATE


@pytest.mark.parametrize("name", ["abc.npy", "[abc]-[3-5].npy"])
def test_zero_padding_of_the_reference_is_cut_off(tmp_path, name):
    samples = noise(1.5)
    np.save(tmp_path / name, np.pad(samples, (0, 30 * RATE - len(samples))))
    clip = find_clip_files([row()], tmp_path)["[abc]-[3-5]"]
    np.testing.assert_array_equal(load(clip), samples)


def test_reference_waveform_longer_than_the_clip_is_cut_at_its_length(tmp_path):
    samples = noise(30)
    np.save(tmp_path / "abc.npy", samples)
    np.testing.assert_array_equal(load(find_clip_files([row()], tmp_path)["[abc]-[3-5]"]), samples[: 2 * RATE])


@pytest.mark.parametrize(
    "array",
    [np.array([{}], dtype=object), np.zeros((2, 100), np.float32), np.array([np.nan], np.float32), np.arange(9)],
)
def test_array_that_is_no_waveform_is_refused_and_never_unpickled(tmp_path, array):
    np.save(tmp_path / "abc.npy", array, allow_pickle=True)
    with pytest.raises(AudioError, match=r"abc\.npy"):
        load(ClipFile(str(tmp_path / "abc.npy")))


def test_files_are_found_by_listing_in_subfolders_and_ids_build_no_path(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    wav(tmp_path / "in/deep/abc.wav", noise(1))
    wav(tmp_path / "secret.wav", noise(1))
    found = find_clip_files([row(), row("../secret"), row("/etc/passwd")], tmp_path / "in")
    assert list(found) == ["[abc]-[3-5]"]


def test_lossless_file_is_preferred(tmp_path):
    for name in ("abc.npy", "abc.mp3", "abc.flac"):
        (tmp_path / name).touch()
    assert find_clip_files([row()], tmp_path)["[abc]-[3-5]"].path.endswith("abc.flac")


def test_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        find_clip_files([row()], tmp_path / "none")


def test_own_rows_name_their_files(tmp_path):
    assert find_own_files([row("a", 0, 10, "/x/a.wav"), row("b")]) == {"a": ClipFile("/x/a.wav", 0, 10)}


def test_hub_audio_column_is_decoded_without_torchcodec(tmp_path):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(2), RATE, format="FLAC")
    table = [{"audio": {"bytes": buffer.getvalue(), "path": "x.flac"}}, {"audio": {"bytes": b"junk", "path": None}}]
    np.testing.assert_allclose(load(ClipColumn(table, 0, "audio")), noise(2), atol=1e-4)
    with pytest.raises(AudioError, match=r"audio\[1\]"):
        load(ClipColumn(table, 1, "audio"))


@pytest.mark.parametrize("samples", [np.zeros(RATE, np.float32), np.full(RATE, 0.0005, np.float32)])
def test_silence_is_refused_by_level(tmp_path, samples):
    with pytest.raises(AudioError, match="silent"):
        load(ClipWaveform(samples))
    with pytest.raises(AudioError, match="silent"):
        load(ClipFile(wav(tmp_path / "a.wav", samples)))


@pytest.mark.parametrize(("rate", "channels"), [(192_000, 1), (44_100, 8), (8_000, 2)])
def test_any_rate_and_channel_count_becomes_16_khz_mono(tmp_path, rate, channels):
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    path = wav(tmp_path / "a.wav", np.repeat(samples[:, None], channels, axis=1), rate)
    assert abs(len(load(ClipFile(path))) - RATE) <= 1


def test_hour_long_file_costs_no_more_than_its_first_window(tmp_path, monkeypatch):
    from descant.data import clip_audio

    taken = []

    def endless(path: str, rate: int):
        while True:
            taken.append(rate)
            yield noise(1)

    monkeypatch.setattr(clip_audio, "stream_audio", endless)
    path = wav(tmp_path / "a.wav", noise(1))
    assert len(load(ClipFile(path, 0, 10))) == 10 * RATE and len(taken) == 10


def test_playlist_named_as_sound_is_refused(tmp_path):
    wav(tmp_path / "other.wav", noise(1))
    (tmp_path / "a.mp3").write_text("#EXTM3U\nother.wav\n")
    with pytest.raises(AudioError, match=r"a\.mp3"):
        load(ClipFile(str(tmp_path / "a.mp3")))

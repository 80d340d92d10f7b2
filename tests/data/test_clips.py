"""Each source of a clip's sound gives exactly the annotated window."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from descant.data.annotations import Row
from descant.data.audio import AudioError
from descant.data.clips import (
    ClipColumn,
    ClipFile,
    ClipWaveform,
    find_clip_files,
    find_hub_clips,
    find_own_files,
    gather_clips,
    read_clip_list,
)

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
    from descant.data import clips

    taken = []

    def endless(path: str, rate: int):
        while True:
            taken.append(rate)
            yield noise(1)

    monkeypatch.setattr(clips, "stream_audio", endless)
    path = wav(tmp_path / "a.wav", noise(1))
    assert len(load(ClipFile(path, 0, 10))) == 10 * RATE and len(taken) == 10


def test_playlist_named_as_sound_is_refused(tmp_path):
    wav(tmp_path / "other.wav", noise(1))
    (tmp_path / "a.mp3").write_text("#EXTM3U\nother.wav\n")
    with pytest.raises(AudioError, match=r"a\.mp3"):
        load(ClipFile(str(tmp_path / "a.mp3")))


def table_row(clip_id: str, audio: str | None = None) -> Row:
    return Row(clip_id, None, "a song", None, "musiccaps", 0, 10, "train", audio)


def sound(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=16_000), 16_000)
    return str(path)


def test_demo_names_every_clip_once_with_its_file():
    rows = read_clip_list("demo").rows
    assert len({table_row.clip_id for table_row in rows}) == len(rows) > 100
    assert all(Path(table_row.audio).is_file() for table_row in rows)


def test_table_is_told_by_its_columns(tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text('{"audio": "a.wav", "caption": "x"}\n')
    caps = tmp_path / "caps.jsonl"
    caps.write_text('{"ytid": "a", "start_s": 0, "end_s": 9, "caption": "x", "is_audioset_eval": true}\n')
    qa = tmp_path / "qa.json"
    qa.write_text('{"QA": [{"ytid": "a", "question": "x", "answer": "y", "is_audioset_eval": true}]}')
    assert [read_clip_list(path).rows[0].source for path in (own, caps, qa)] == ["own", "musiccaps", "music_instruct"]


def test_place_of_its_own_comes_before_folders_in_their_order(tmp_path):
    sound(tmp_path / "one/b.wav")
    sound(tmp_path / "two/b.wav")
    sound(tmp_path / "two/a.wav")
    own = sound(tmp_path / "own.wav")
    clips = gather_clips([table_row("a", own), table_row("b"), table_row("c")], [tmp_path / "one", tmp_path / "two"])
    assert {name: clip.path for name, clip in clips.items()} == {"a": own, "b": str(tmp_path / "one/b.wav")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def hub_row(clip_id: str, start_s: float = 0, end_s: float = 10) -> Row:
    return Row(clip_id, None, "a song", None, "musiccaps", start_s, end_s, "train")


def parquet(folder: Path, columns: dict) -> str:
    folder.mkdir()
    table = Dataset.from_dict(columns)
    table = table.cast_column("audio", Audio(decode=False)) if "audio" in columns else table
    table.to_parquet(folder / "train.parquet")
    return str(folder)


def cell(path: Path, seconds: float) -> dict:
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=round(seconds * 16_000)), 16_000)
    return {"bytes": path.read_bytes(), "path": path.name}


@pytest.mark.parametrize("ids", [{"ytid": ["abc"]}, {"fname": ["[abc]-[2-4]"]}, {"clip_id": ["[abc]-[2-4]"]}])
def test_clip_is_found_by_recording_or_clip_id(tmp_path, ids):
    dataset = parquet(tmp_path / "hub", ids | {"audio": [cell(tmp_path / "a.wav", 1)]})
    clips = find_hub_clips([hub_row("[abc]-[2-4]", 2, 4), hub_row("[xyz]-[0-10]")], dataset)
    assert list(clips) == ["[abc]-[2-4]"]
    assert len(clips["[abc]-[2-4]"].load(16_000, 10)[0]) == 16_000


def test_column_of_whole_recordings_is_cut(tmp_path):
    dataset = parquet(tmp_path / "hub", {"ytid": ["abc"], "audio": [cell(tmp_path / "a.wav", 6)]})
    clip = find_hub_clips([hub_row("[abc]-[2-4]", 2, 4)], dataset)["[abc]-[2-4]"]
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    np.testing.assert_array_equal(clip.load(16_000, 10)[0], samples[32_000:64_000])


@pytest.mark.parametrize("columns", [{"ytid": ["a"]}, {"name": ["a"], "audio": [{"bytes": b"", "path": "a.wav"}]}])
def test_dataset_without_audio_or_ids_is_refused(tmp_path, columns):
    with pytest.raises(ValueError, match="needs an audio column and one of"):
        find_hub_clips([hub_row("a")], parquet(tmp_path / "hub", columns))

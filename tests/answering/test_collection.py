"""Captions: the order of answers, their stamps, and a CSV with the reference's columns."""

import csv
import io
import logging
import random
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tiny import write_song

from descant.answering.collection import find_recordings, format_captions, join_answers, order_records
from descant.data.audio import hear_windows, stream_windows

QUESTIONS = ("Which genre?", "Which mood?")


def record(audio: str, start_s: float | None, question: str | None, text: str | None = None) -> dict[str, object]:
    end_s = None if start_s is None else start_s + 10
    error = "does not exist" if start_s is None else None
    place = {"audio": audio, "start_s": start_s, "end_s": end_s}
    return {**place, "question": question, "prediction": text, "error": error}


IN_ORDER = [
    record("b.wav", 0.0, "Which genre?", "Jazz."),
    record("b.wav", 0.0, "Which mood?", 'A "calm",\nlate mood.'),
    record("b.wav", 10.0, "Which genre?", "Rock."),
    record("b.wav", 100.0, "Which genre?", "Folk."),
    record("a.wav", None, None),
    record("gone.wav", 0.0, "Which genre?", "Ska."),
]


@pytest.mark.parametrize("seed", range(5))
def test_records_come_in_the_order_of_recordings_windows_and_questions(seed: int) -> None:
    shuffled = random.Random(seed).sample(IN_ORDER, len(IN_ORDER))
    assert order_records(shuffled, ["b.wav", "a.wav"], QUESTIONS) == IN_ORDER


def test_answers_stand_under_the_stamp_of_their_window() -> None:
    expected = '[0:00–0:10] Jazz. A "calm", late mood. [0:10–0:20] Rock. [1:40–1:50] Folk.'
    assert join_answers(IN_ORDER[:4]) == expected
    unsure = [record("b.wav", start, "Which style?", "I am not sure: nothing tells.") for start in (0.0, 20.0)]
    assert join_answers([*IN_ORDER[:2], unsure[0], IN_ORDER[2], unsure[1], IN_ORDER[3]]) == expected
    assert join_answers(unsure) == "I am not sure."


def test_the_csv_has_a_row_for_each_recording_that_was_heard() -> None:
    rows = list(csv.DictReader(io.StringIO(format_captions(IN_ORDER))))
    assert [row["audio_path"] for row in rows] == ["b.wav", "gone.wav"]
    assert list(rows[0]) == ["audio_path", "caption"] and rows[1]["caption"] == "[0:00–0:10] Ska."


def test_recordings_are_found_in_order_below_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.MP3", "a.wav", "disc 2/[x]-[0-10].npy", "notes.txt", ".hidden.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        found = find_recordings(tmp_path)
    assert [one.audio for one in found] == ["a.wav", "b.MP3", "disc 2/[x]-[0-10].npy"]
    assert found[2].path == tmp_path / "disc 2/[x]-[0-10].npy" and found[2].clip_id == "[x]-[0-10]"
    assert "notes.txt" in caplog.text and "hidden" not in caplog.text


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sound files"):
        find_recordings(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        find_recordings(tmp_path / "absent")


def test_recordings_are_those_of_patterns_and_shards_too(tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 3.0, 16_000)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards" / "b.tar", "w") as tar:
        tar.add(song, "in/c.wav")
    shard = f"{tmp_path}/shards/b.tar::in/c.wav"
    for source, name, clip_id in (("*.wav", song, "a"), ("shards/b.tar", shard, "c"), ("shards", shard, "c")):
        (found,) = find_recordings(f"{tmp_path}/{source}")
        assert (found.audio, found.clip_id) == (str(name), clip_id) and len(stream_windows(found.path)) == 1


def test_sound_files_and_waveforms_give_windows(tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 12.0, 16_000)
    np.save(tmp_path / "b.npy", np.pad(np.ones(200_000, np.float32), (0, 280_000)))
    assert [one.end_s for one in stream_windows(song)] == [10.0, 12.0]
    assert [one.end_s for one in stream_windows(tmp_path / "b.npy")] == [10.0, 12.5]
    assert hear_windows(tmp_path / "b.npy", 1).duration_s == 12.5

"""Folders of recordings: what counts as one, and how each is heard."""

import logging
from pathlib import Path

import numpy as np
import pytest
from tiny import write_song

from descant.inference.collection import find_recordings, read_windows


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
    with pytest.raises(ValueError, match="holds no file"):
        find_recordings(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        find_recordings(tmp_path / "absent")


def test_sound_files_and_waveforms_give_windows(tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 12.0, 16_000)
    np.save(tmp_path / "b.npy", np.pad(np.ones(200_000, np.float32), (0, 280_000)))
    assert [one.end_s for one in read_windows(song, 16_000, 10.0)] == [10.0, 12.0]
    assert [one.end_s for one in read_windows(tmp_path / "b.npy", 16_000, 10.0)] == [10.0, 12.5]

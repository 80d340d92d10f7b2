"""Files cut short are refused, in every format that tells its length; streamed ones are whole."""

import os
import struct
from pathlib import Path

import pytest
from sounds import reason, write

from descant.data.audio import load_audio


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

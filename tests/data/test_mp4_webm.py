"""MP4 and WebM sound through PyAV: read, refused when cut short, and told what is missing without it."""

import os
import sys
from pathlib import Path

import pytest
from sounds import loudest_hertz, reason, tone

from descant.data.audio import load_audio


def write_with_av(path: Path, seconds: float = 12.0) -> Path:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    codec = "aac" if path.suffix == ".m4a" else "libopus"
    with av.open(str(path), "w", options={"movflags": "faststart"} if codec == "aac" else {}) as container:
        stream = container.add_stream(codec, rate=48_000)
        frame = av.AudioFrame.from_ndarray(tone(seconds, 48_000).T.copy(), format="flt", layout="mono")
        frame.rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_mp4_and_webm_are_read_through_pyav(tmp_path: Path, name: str) -> None:
    waveform = load_audio(write_with_av(tmp_path / name))
    assert len(waveform) == pytest.approx(12 * 16_000, abs=2_000)
    assert loudest_hertz(waveform) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_mp4_and_webm_cut_short_are_refused(tmp_path: Path, name: str) -> None:
    path = write_with_av(tmp_path / name)
    os.truncate(path, path.stat().st_size // 2)
    reason(path)


def test_mp4_without_pyav_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install av" in reason(tmp_path / "a.m4a")

"""A cut clip has exactly the window's samples; what is short, silent or no sound is bad audio."""

import numpy as np
import pytest
import soundfile

from descant.data.download.cut import cut_clip, section_of
from descant.data.download.outcomes import FetchError

RATE = 16_000


def section(path, seconds: float, level: float = 0.3, rate: int = RATE, channels: int = 1):
    samples = level * np.random.default_rng(0).uniform(-1, 1, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def test_section_has_a_margin_that_does_not_begin_before_the_recording():
    assert section_of(30, 40) == (29, 41)
    assert section_of(0, 10) == (0, 11)


def test_window_is_cut_out_of_the_margin(tmp_path):
    path = section(tmp_path / "s.wav", 4)
    samples, _ = soundfile.read(path, dtype="float32")
    clip = cut_clip(path, 30, 32, tmp_path / "clip.flac")
    written, rate = soundfile.read(tmp_path / "clip.flac", dtype="float32")
    assert rate == RATE and len(written) == 2 * RATE and clip.duration_s == 2
    np.testing.assert_allclose(written, samples[RATE : 3 * RATE], atol=1e-4)


def test_clip_that_misses_20_ms_is_filled_up_and_one_that_misses_more_is_bad(tmp_path):
    clip = cut_clip(section(tmp_path / "s.wav", 2.985), 30, 32, tmp_path / "clip.flac")
    assert clip.duration_s == pytest.approx(1.985) and soundfile.info(tmp_path / "clip.flac").frames == 2 * RATE
    with pytest.raises(FetchError, match=r"only 1\.97 s of the window's 2 s") as caught:
        cut_clip(section(tmp_path / "s.wav", 2.97), 30, 32, tmp_path / "bad.flac")
    assert caught.value.outcome.status == "bad audio" and not (tmp_path / "bad.flac").exists()


@pytest.mark.parametrize("level", [0.0, 0.0015])
def test_clip_under_minus_60_dbfs_is_bad(tmp_path, level):
    with pytest.raises(FetchError, match="silent") as caught:
        cut_clip(section(tmp_path / "s.wav", 3, level), 0, 2, tmp_path / "clip.flac")
    assert caught.value.outcome.status == "bad audio"


def test_section_that_is_no_sound_is_bad(tmp_path):
    (tmp_path / "s.wav").write_text("hello")
    with pytest.raises(FetchError) as caught:
        cut_clip(tmp_path / "s.wav", 0, 2, tmp_path / "clip.flac")
    assert caught.value.outcome.status == "bad audio"


def test_any_rate_and_channel_count_becomes_16_khz_mono(tmp_path):
    cut_clip(section(tmp_path / "s.wav", 3, rate=48_000, channels=6), 0, 2, tmp_path / "clip.flac")
    info = soundfile.info(tmp_path / "clip.flac")
    assert (info.samplerate, info.channels, info.frames) == (RATE, 1, 2 * RATE)

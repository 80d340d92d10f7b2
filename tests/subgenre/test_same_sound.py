"""The same sound is found again in another encoding, loudness or place; other sounds are not mistaken for it."""

import numpy as np
import pytest
import soundfile

from descant.data.audio import load_audio
from descant.subgenre.reading_tracks import load_demo_tracks
from descant.subgenre.same_sound import (
    bit_error_rate,
    find_duplicates,
    fingerprint_sound,
    fingerprint_sounds,
    fingerprint_waveform,
)


@pytest.fixture(scope="module")
def clips():
    return [track.audio for track in load_demo_tracks().tracks[:24:2]]


@pytest.fixture(scope="module")
def prints(clips):
    return {path.stem: fingerprint_sound(path) for path in clips}


def write_mp3(path, waveform):
    soundfile.write(path, waveform, 16_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)


def write_quiet(path, waveform):
    soundfile.write(path, 0.1 * waveform, 16_000)


def write_late(path, waveform):
    soundfile.write(path, waveform[17_777:], 16_000)


def write_other_rate(path, waveform):
    soundfile.write(path, np.repeat(waveform, 2)[:, None] @ np.ones((1, 2)), 32_000)


@pytest.mark.parametrize("write", [write_mp3, write_quiet, write_late, write_other_rate])
def test_a_sound_is_found_again(clips, prints, tmp_path, write):
    for path in clips[:2]:
        write(tmp_path / "again.wav", load_audio(path))
        found = find_duplicates(prints | {"again": fingerprint_sound(tmp_path / "again.wav")})
        assert found == [tuple(sorted((path.stem, "again")))], path.stem


def test_clips_of_one_band_and_groove_are_not_mistaken(prints):
    assert find_duplicates(prints) == []


def test_silence_resembles_nothing():
    silence = fingerprint_waveform(np.zeros(80_000, np.float32))
    assert find_duplicates({"a": silence, "b": silence, "short": fingerprint_waveform(np.zeros(100))}) == []


def test_nothing_at_all_has_no_duplicates():
    assert find_duplicates({}) == []


def test_hundreds_of_tracks_are_compared_without_comparing_each_with_each():
    rng = np.random.default_rng(0)
    many = {f"t{i:04}": rng.integers(0, 2**32, 300, dtype=np.uint32) for i in range(500)}
    wrong = np.packbits(rng.random((300, 32)) < 0.1, axis=1).view("<u4")[:, 0].astype(np.uint32)
    found = find_duplicates(many | {"again": (many["t0007"] ^ wrong)[20:]})
    assert found == [("again", "t0007")]


def test_bit_errors_are_counted_where_the_fingerprints_overlap():
    words = np.arange(10, dtype=np.uint32)
    assert bit_error_rate(words, words[3:], 3) == (0.0, 7)
    assert bit_error_rate(words[3:], words, -3) == (0.0, 7)
    assert bit_error_rate(words, ~words, 0) == (1.0, 10)
    assert bit_error_rate(words, words, 10) == (1.0, 0)


def test_a_file_that_cannot_be_read_is_named_and_the_rest_goes_on(clips, tmp_path):
    (tmp_path / "bad.mp3").write_bytes(b"no sound")
    prints, problems = fingerprint_sounds({"good": clips[0], "bad": tmp_path / "bad.mp3"})
    assert list(prints) == ["good"]
    assert len(problems) == 1 and problems[0].startswith("bad: bad.mp3 ")

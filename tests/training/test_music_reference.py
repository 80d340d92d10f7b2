"""What tells music from other sounds: fitted on few clips of the demo, tried on others and on other sounds."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from descant.data.corpus import load_corpus
from descant.models.lp_music_caps.track_music import MusicReference, describe_sound, measure_bands
from descant.training.music_reference import fit_reference, make_sounds

RATE = 16_000
TIMES = np.arange(10 * RATE) / RATE


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    audio = load_corpus("demo", ["short"]).audio
    return [audio[name].load(RATE, 10)[0] for name in sorted(audio)[:32]]


@pytest.fixture(scope="module")
def reference(clips: list[np.ndarray]) -> MusicReference:
    found = fit_reference(clips[:24], clips[:24], RATE)
    assert found is not None
    return found


def test_clips_that_were_not_fitted_on_are_music_at_any_level(clips: list[np.ndarray], reference) -> None:
    for clip in clips[24:]:
        assert all(reference.is_music(torch.from_numpy(gain * clip), RATE) for gain in (0.03, 1.0, 10.0))


def test_noise_and_tones_are_no_music(reference: MusicReference) -> None:
    random = np.random.default_rng(9)
    tone = np.sin(2 * np.pi * 440 * TIMES)
    for wave in (random.normal(size=10 * RATE), random.normal(size=10 * RATE).cumsum(), tone, np.sign(tone)):
        assert not reference.is_music(torch.from_numpy(wave - wave.mean()), RATE)


def test_short_sounds_are_judged_as_long_ones(clips: list[np.ndarray], reference: MusicReference) -> None:
    assert reference.is_music(torch.from_numpy(clips[30][: 2 * RATE]), RATE)
    assert not reference.is_music(torch.from_numpy(np.random.default_rng(0).normal(size=RATE)), RATE)
    assert np.isfinite(describe_sound(measure_bands(torch.from_numpy(clips[30][: RATE // 2]), RATE))).all()


def test_fitting_again_gives_the_same(clips: list[np.ndarray], reference: MusicReference) -> None:
    assert asdict(fit_reference(clips[:24], clips[:24], RATE)) == asdict(reference)


def test_the_limit_leaves_nearly_all_validation_clips(clips: list[np.ndarray], reference: MusicReference) -> None:
    noise = list(np.random.default_rng(0).normal(size=(5, RATE)))
    raised = fit_reference(clips[:24], noise, RATE)
    assert replace(raised, limit=0.0) == replace(reference, limit=0.0) and raised.limit > 0.3


def test_without_clips_nothing_is_fitted() -> None:
    assert fit_reference([], [], RATE) is None


def test_made_sounds_fill_ten_seconds_at_any_rate() -> None:
    for wave in make_sounds(24_000, 2):
        assert wave.shape == (240_000,) and np.isfinite(wave).all() and np.abs(wave).max() == pytest.approx(1.0)

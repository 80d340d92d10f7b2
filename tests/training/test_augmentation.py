"""Augmentation: seeded, shape kept, level and masks bounded."""

import numpy as np

from descant.training.augmentation import MAX_GAIN_DB, MAX_TILT_DB, augment_mel


def test_the_same_generator_gives_the_same_clip_and_the_input_stays():
    mel = np.random.default_rng(0).uniform(-80, 20, (128, 1001)).astype(np.float32)
    before = mel.copy()
    first, second = (augment_mel(mel, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first, second) and np.array_equal(mel, before)
    assert not np.array_equal(first, augment_mel(mel, np.random.default_rng(6)))
    assert (first.shape, first.dtype) == (mel.shape, np.float32)


def test_level_moves_by_no_more_than_gain_and_tilt():
    mel = np.zeros((128, 1001), dtype=np.float32)
    loudest = max(np.abs(augment_mel(mel, np.random.default_rng(seed))).max() for seed in range(50))
    assert 0.5 * MAX_GAIN_DB < loudest <= MAX_GAIN_DB + MAX_TILT_DB / 2

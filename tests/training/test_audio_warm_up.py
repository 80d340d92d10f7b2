"""The audio encoder's first lesson: targets from closed answers, and weights that learn them."""

import numpy as np
import pytest
import torch
from tiny import build_tiny_model

from descant.data.annotations import Row
from descant.training.start import MAX_GAIN_DB, MAX_TILT_DB, UNKNOWN, augment_mel, class_targets, warm_up_audio


def row(clip: str, kind: str | None, answer: str) -> Row:
    return Row(clip, "What is heard?", answer, kind, "test", 0.0, 10.0)


class TwoSounds:
    """Half of the clips are bright, half are dark."""

    def read(self, clip_id: str, out: np.ndarray | None = None) -> np.ndarray:
        bands = np.linspace(-20, 20, 128, dtype=np.float32)[:, None]
        return np.repeat(bands if int(clip_id) % 2 else -bands, 1001, axis=1)


def test_answers_of_one_meaning_are_one_class_and_missing_ones_are_marked():
    rows = [row("1", "genre", "The genre is jazz."), row("2", "genre", "This is jazz music."),
            row("3", "genre", "You hear rock."), row("3", "drums", "Yes, there are drums."),
            row("1", "long_use", "At a party."), row("1", None, "Something else.")]  # fmt: skip
    clips, targets = class_targets(rows)
    assert clips == ["1", "2", "3"]
    assert targets.tolist() == [[UNKNOWN, 0], [UNKNOWN, 0], [0, 1]]


def test_the_encoder_learns_what_the_answers_say_and_nothing_else_changes():
    model, _ = build_tiny_model()
    rows = [row(str(n), "genre", "It is jazz." if n % 2 else "It is rock.") for n in range(32)]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = {"learning_rate": 2e-3, "first_conv_lr_scale": 0.1, "seed": 0}
    first = warm_up_audio(model, rows, TwoSounds(), epochs=1, **settings)
    last = warm_up_audio(model, rows, TwoSounds(), epochs=8, **settings)
    assert last < 0.8 * first
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if name.startswith("audio_encoder.conv")}


def test_the_same_seed_gives_the_same_weights():
    rows = [row(str(n), "genre", "It is jazz." if n % 2 else "It is rock.") for n in range(8)]
    weights = []
    for _ in range(2):
        model, _ = build_tiny_model()
        warm_up_audio(model, rows, TwoSounds(), epochs=1, learning_rate=1e-3, first_conv_lr_scale=0.1, seed=3)
        weights.append(model.audio_encoder.conv1.weight.clone())
    assert torch.equal(*weights)


def test_rows_without_question_types_are_passed_over():
    model, _ = build_tiny_model()
    assert warm_up_audio(
        model, [row("1", None, "Yes.")], TwoSounds(), epochs=1, learning_rate=1e-3, first_conv_lr_scale=1.0, seed=0
    ) == pytest.approx(0.0)  # fmt: skip


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

"""Tests of cached states: a store of its own for each encoder and mix, equal to what the model computes."""

from pathlib import Path

import numpy as np
import torch
from tiny_mert_lm import join_tiny, save_parts

from descant.data.extraction import extract_features
from descant.data.features import FeatureStore


def test_a_store_gives_back_what_the_encoder_computed(joined, waveforms, tmp_path: Path) -> None:
    model, processor = joined
    extractor = model.cached_features(processor.feature_extractor)
    store = FeatureStore(tmp_path, extractor.to_dict())
    clips = {"a": waveforms[0], "b": waveforms[1]}
    assert extract_features(clips, extractor, store, processes=2).written == 2  # which sends the encoder to others
    store.refresh()
    features = processor(audio=waveforms[:2], sampling_rate=24_000, return_tensors="pt")["input_features"]
    expected = model.encode_audio(features).numpy()
    for row, clip in enumerate("ab"):
        np.testing.assert_allclose(store.read(clip), expected[row], rtol=2e-3, atol=2e-3)


def test_the_key_names_encoder_mix_and_pooling(joined, parts, tmp_path: Path) -> None:
    def key(model, processor) -> Path:
        return FeatureStore(tmp_path, model.cached_features(processor.feature_extractor).to_dict()).folder

    first = key(*joined)
    assert first == key(*join_tiny(parts, projector="mlp", seed=5))  # what follows the encoder does not count
    others = [
        key(*join_tiny(parts, layer_mix="last")), key(*join_tiny(parts, layer_mix="learned")),
        key(*join_tiny(parts, pooling="mean")), key(*join_tiny(parts, pool_stride=5)),
        key(*join_tiny(save_parts(tmp_path / "others", seed=1))),
    ]  # fmt: skip
    assert len({first, *others}) == 6


def test_the_hash_is_of_every_weight(joined) -> None:
    model, processor = joined
    before = model.cached_features(processor.feature_extractor).to_dict()["encoder_sha256"]
    with torch.no_grad():
        model.audio_encoder.feature_projection.projection.bias[0] += 1e-3
    assert model.cached_features(processor.feature_extractor).to_dict()["encoder_sha256"] != before

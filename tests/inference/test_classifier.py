"""Tests that labels come with the model's own probabilities, and with the pieces that matter to it."""

import numpy as np
import pytest
import torch
from tiny_subgenre import AUDIO_DIM, build_tiny_subgenre

from descant.inference.classifier import TrackClassifier
from descant.inference.track_hearing import Said
from descant.inference.track_parts import TrackParts, take_pieces_away

LYRICS = "we drive all night\non broken strings\nand nobody knows\nthe words we sing"
SAID = (Said(0, 10, "genre?", "loud guitar"), Said(10, 14, "genre?", "restless drums"))
EMBEDS = np.random.default_rng(0).standard_normal((2, AUDIO_DIM)).astype(np.float32)
TRACK = TrackParts(LYRICS, SAID, EMBEDS, ((0, 10), (10, 14)))


@pytest.fixture(scope="module")
def classifier() -> TrackClassifier:
    thresholds = {"jazz": 0.01, "jazz---swing": 0.0, "rock---punk": 0.0}
    return TrackClassifier(*build_tiny_subgenre(thresholds=thresholds), "tiny", batch_size=3)


def test_scores_are_the_models_probabilities_of_all_labels(classifier: TrackClassifier) -> None:
    _, scores = classifier.classify(TRACK)
    inputs = classifier.processor(
        lyrics=[LYRICS], captions=[["loud guitar", "restless drums"]], audio_embeds=[TRACK.audio_embeds],
        return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        expected = classifier.model(**inputs).logits[0].sigmoid()
    assert list(scores) == classifier.labels
    np.testing.assert_allclose(list(scores.values()), expected.numpy(), atol=1e-6)


def test_named_labels_are_in_the_tree_genres_first(classifier: TrackClassifier) -> None:
    labels, scores = classifier.classify(TRACK)
    genres = [one for one in labels if "---" not in one.label]
    assert labels[: len(genres)] == genres
    for group in (genres, labels[len(genres) :]):
        assert [one.score for one in group] == sorted((one.score for one in group), reverse=True)
    assert {one.label.split("---")[0] for one in labels} == {one.label for one in genres}
    assert all(one.score == scores[one.label] for one in labels)


def test_evidence_is_by_how_much_the_probability_falls_without_the_piece(classifier: TrackClassifier) -> None:
    labels, scores = classifier.classify(TRACK)
    without = {piece: classifier.classify(rest, explain=False)[1] for piece, rest in take_pieces_away(TRACK)}
    for one in labels:
        drops = sorted((scores[one.label] - rest[one.label] for rest in without.values()), reverse=True)
        expected = [drop for drop in drops[:3] if drop >= 0.001]
        np.testing.assert_allclose([evidence.drop for evidence in one.evidence], expected, atol=1e-5)
        for evidence in one.evidence:
            assert evidence.drop == pytest.approx(scores[one.label] - without[evidence.piece][one.label], abs=1e-5)
    assert any(one.evidence for one in labels)


def test_without_explaining_there_is_no_evidence(classifier: TrackClassifier) -> None:
    labels, scores = classifier.classify(TRACK, explain=False)
    assert not any(one.evidence for one in labels)
    np.testing.assert_allclose(list(scores.values()), list(classifier.classify(TRACK)[1].values()), atol=1e-6)


@pytest.mark.parametrize(
    "track", [TrackParts(LYRICS), TrackParts(None, SAID), TrackParts(None, (), EMBEDS, TRACK.spans)]
)
def test_any_one_modality_is_enough(classifier: TrackClassifier, track: TrackParts) -> None:
    labels, _ = classifier.classify(track)
    assert labels[0].label in ("rock", "jazz", "ambient")


def test_an_embedding_of_another_width_is_refused(classifier: TrackClassifier) -> None:
    with pytest.raises(ValueError, match=r"shape \(9,\), the model needs \(6,\)"):
        classifier.classify(TrackParts(None, (), np.zeros((1, 9), np.float32), ((0, 10),)))

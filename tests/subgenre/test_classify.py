"""Tests of how a classification reads, as text and as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_tiny_model, write_song
from tiny_subgenre import AUDIO_DIM, build_tiny_subgenre, save_tiny_subgenre

from descant.answering.model_folder import ModelFolderError, fingerprint_model
from descant.answering.stream import Recording, in_order
from descant.models import box
from descant.subgenre.classify import (
    MAX_PASSAGES,
    Classification,
    Classifying,
    Evidence,
    NamedLabel,
    Piece,
    TrackClassifier,
    TrackParts,
    join_parts,
    load_captioner,
    take_pieces_away,
)
from descant.subgenre.hearing import CaptionerAnswer, TrackHearing

EVIDENCE = [
    Evidence(Piece("lyrics", "first line\nsecond line"), 0.214),
    Evidence(Piece("captions", "jazz", "What is the genre?", ((0, 10), (20, 30), (30, 35))), 0.1),
    Evidence(Piece("audio", spans=((10, 20),)), 0.0123),
]
FOUND = Classification(
    "song.mp3", "model", "captioner", [NamedLabel("jazz", 0.91, EVIDENCE), NamedLabel("jazz---bebop", 0.4)],
    {"jazz": 0.91, "jazz---bebop": 0.4}, ["lyrics", "audio"], ["HTML was taken out"],
)  # fmt: skip


def test_under_each_label_stand_the_pieces_it_rests_on() -> None:
    assert FOUND.to_text().splitlines() == [
        "song.mp3  (from lyrics, audio)",
        "  91.0 %  jazz",
        "      -21.4  lyrics  first line / second line",
        "      -10.0  captions  0:00–0:10, 0:20–0:35  What is the genre?  jazz",
        "      -1.2  audio  0:10–0:20",
        "  40.0 %  jazz---bebop",
    ]


def test_json_is_one_line_with_everything() -> None:
    line = FOUND.to_json()
    record = json.loads(line)
    assert "\n" not in line
    assert record["labels"][0]["evidence"][1] == {
        "kind": "captions", "text": "jazz", "question": "What is the genre?", "spans": [[0, 10], [20, 30], [30, 35]],
        "drop": 0.1,
    }  # fmt: skip
    assert record["scores"] == {"jazz": 0.91, "jazz---bebop": 0.4}
    assert (record["notes"], record["error"]) == (["HTML was taken out"], None)


LYRICS = "we drive all night\non broken strings\nand nobody knows\nthe words we sing"
SAID = (CaptionerAnswer(0, 10, "genre?", "loud guitar"), CaptionerAnswer(10, 14, "genre?", "restless drums"))
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


WORDS = "we drive all night on broken strings"


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("captioner")))


def load(folder: Path, **settings: object) -> TrackClassifier:
    return TrackClassifier.load(str(save_tiny_subgenre(folder, audio_dim=16, **settings)))


def test_the_models_own_captioner_asks_its_questions_in_its_way(
    captioner: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = {"captioner": captioner, "captioner_hash": fingerprint_model(Path(captioner)), "questions": ["Is it fast?"]}
    listener, note = load_captioner(load(tmp_path, **own, captioner_generation={"num_beams": 3}), None)
    assert note is None and not caplog.records
    assert listener.questions == ("Is it fast?",) and listener.listener.generation["num_beams"] == 3


def test_without_questions_the_captioner_gives_captions(captioner: str, tmp_path: Path) -> None:
    listener, _ = load_captioner(load(tmp_path, captioner=captioner), None)
    assert listener.questions == (None,)


def test_a_folder_here_is_not_taken_for_the_captioner_in_the_box(
    captioner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save_tiny_model(tmp_path / "box", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(box, "FOLDER", Path(captioner))
    own = {"captioner": "box", "captioner_hash": fingerprint_model(Path(captioner))}
    listener, _ = load_captioner(load(tmp_path / "model", **own), None)
    assert listener.listener.name == "box" and not caplog.records
    load_captioner(load(tmp_path / "model", **own), "box")
    assert "box is not the captioner that" in caplog.text, "the folder is one that may be asked for"


def test_a_captioner_that_is_gone_is_noted_and_one_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    classifier = load(tmp_path, captioner="/nowhere/captioner")
    listener, note = load_captioner(classifier, None)
    gone = "the model's captioner is gone, only lyrics were read: /nowhere/captioner"
    assert listener is None and note.startswith(gone)
    with pytest.raises(ModelFolderError, match="/nowhere/other"):
        load_captioner(classifier, "/nowhere/other")


def test_a_model_without_captioner_reads_lyrics_alone_and_says_so(tmp_path: Path) -> None:
    classifier = load(tmp_path / "model")
    listener, note = load_captioner(classifier, None)
    assert listener is None and note == "the model names no captioner: only lyrics were read"
    song = write_song(tmp_path / "song.wav", seconds=1)
    song.with_suffix(".txt").write_text(WORDS)
    recordings = [Recording(tmp_path / "gone.mp3", "gone"), Recording(song, "song"), Recording(song, "song")]
    gone, *found = in_order(Classifying(classifier, recordings, note=note))
    assert gone.error == "does not exist" and gone.audio == "gone"
    assert [(one.read, one.notes) for one in found] == [(["lyrics"], [note])] * 2


def test_recordings_are_numbered_as_given_the_same_one_twice_too(captioner: str, tmp_path: Path) -> None:
    classifier = load(tmp_path / "model", captioner=captioner)
    paths = [write_song(tmp_path / "long.wav", 12), tmp_path / "gone.wav", write_song(tmp_path / "short.wav", 3)]
    recordings = [Recording(path, path.name) for path in [*paths, paths[0]]]
    listener, _ = load_captioner(classifier, None, batch_size=2)
    found = list(in_order(Classifying(classifier, recordings, listener, explain=False)))
    assert [one.audio for one in found] == ["long.wav", "gone.wav", "short.wav", "long.wav"]
    assert found[0].scores == pytest.approx(found[3].scores) and found[1].error == "does not exist"
    assert found[0].notes == ["no lyrics were found"]


def test_windows_are_named_once_however_many_answers_they_have() -> None:
    asked = [(0.0, "a"), (0.0, "b"), (10.0, "a"), (10.0, "b")]
    answers = tuple(CaptionerAnswer(start, start + 10, question, "yes") for start, question in asked)
    assert join_parts(None, TrackHearing("0", answers)).spans == ((0.0, 10.0), (10.0, 20.0))


GENRE, MOOD = "What is the genre?", "What is the mood?"
PART_CAPTIONS = (
    CaptionerAnswer(0, 10, GENRE, "jazz"), CaptionerAnswer(0, 10, MOOD, "calm"),
    CaptionerAnswer(10, 14, GENRE, "jazz"), CaptionerAnswer(10, 14, MOOD, " "),
)
PART_EMBEDS = np.array([[1.0, 2.0], [3.0, 6.0]], dtype=np.float32)
PART_TRACK = TrackParts("one\n\ntwo\nthree", PART_CAPTIONS, PART_EMBEDS, ((0, 10), (10, 14)))


def pieces_of(kind: str, track: TrackParts = PART_TRACK) -> list:
    return [(piece, rest) for piece, rest in take_pieces_away(track) if piece.kind == kind]


def test_a_line_of_the_lyrics_is_a_piece_and_the_others_stay() -> None:
    assert [(piece.text, rest.lyrics) for piece, rest in pieces_of("lyrics")] == [
        ("one", "two\nthree"), ("two", "one\nthree"), ("three", "one\ntwo"),
    ]  # fmt: skip
    assert all(rest.answers == PART_CAPTIONS for _, rest in pieces_of("lyrics"))


def test_long_lyrics_are_a_few_passages_that_hold_every_line() -> None:
    lines = [f"line {number}" for number in range(1001)]
    found = pieces_of("lyrics", TrackParts("\n".join(lines)))
    assert len(found) == MAX_PASSAGES
    assert "\n".join(piece.text for piece, _ in found).splitlines() == lines
    assert all(len(rest.lyrics.splitlines()) + len(piece.text.splitlines()) == 1001 for piece, rest in found)


def test_the_only_line_leaves_no_lyrics() -> None:
    ((piece, rest),) = take_pieces_away(TrackParts("la la la"))
    assert piece.text == "la la la" and rest.lyrics is None and rest.modalities == []


def test_an_answer_given_about_several_windows_is_one_piece() -> None:
    (jazz, without_jazz), (calm, without_calm) = pieces_of("captions")
    assert (jazz.question, jazz.text, jazz.spans) == (GENRE, "jazz", ((0, 10), (10, 14)))
    assert without_jazz.captions == ["calm"] and without_calm.captions == ["jazz", "jazz"]
    assert calm.spans == ((0, 10),)


def test_without_a_window_its_embedding_is_not_in_the_mean() -> None:
    np.testing.assert_allclose(PART_TRACK.audio_embeds, [(10 * 1 + 4 * 3) / 14, (10 * 2 + 4 * 6) / 14])
    (first, rest), _ = pieces_of("audio")
    assert first.spans == ((0, 10),) and rest.audio_embeds.tolist() == [3.0, 6.0] and rest.spans == ((10, 14),)
    (_, nothing) = pieces_of("audio", rest)[0]
    assert nothing.audio_embeds is None and nothing.modalities == ["lyrics", "captions"]

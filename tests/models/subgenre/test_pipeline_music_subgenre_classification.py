"""Tests of `pipeline("music-subgenre-classification")`: any subset of a track's parts, batches, a captioner's help."""

from pathlib import Path

import pytest
import torch
from tiny import save_tiny_model, write_song
from tiny_subgenre import AUDIO_DIM, CAPTIONS, LYRICS, save_tiny_subgenre, tracks
from transformers import Pipeline, pipeline

from descant.answering.listener import Listener
from descant.data.audio import load_audio
from descant.subgenre.hearing import TrackListener

TASK = "music-subgenre-classification"
QUESTIONS = ["What is the genre?", "Which instruments play?"]


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    thresholds = {"rock---punk": 0.0, "jazz": 0.0}
    folder = save_tiny_subgenre(tmp_path_factory.mktemp("subgenre") / "model", thresholds=thresholds)
    return pipeline(TASK, model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, str]:
    """A classifier with a captioner of the right width, and a song of three windows."""
    folder = tmp_path_factory.mktemp("hearing")
    captioner = str(save_tiny_model(folder / "captioner"))
    settings = {"captioner": captioner, "questions": QUESTIONS, "captioner_generation": {"num_beams": 1}}
    model = save_tiny_subgenre(folder / "model", audio_dim=16, **settings)
    return pipeline(TASK, model=str(model), device="cpu"), str(write_song(folder / "song.wav", seconds=22))


def test_labels_come_with_scores_the_likeliest_first_and_in_the_tree(classify: Pipeline) -> None:
    found = classify({"lyrics": LYRICS, "captions": CAPTIONS, "audio_embeds": [0.5] * AUDIO_DIM})
    for kind in ("genres", "subgenres"):
        scores = [one["score"] for one in found[kind]]
        assert scores == sorted(scores, reverse=True)
    genres = [one["label"] for one in found["genres"]]
    assert "jazz" in genres and {one["label"].split("---")[0] for one in found["subgenres"]} <= set(genres)
    assert found["captions"] == CAPTIONS


def test_a_batch_is_classified_as_one_by_one(classify: Pipeline) -> None:
    columns = tracks()
    rows = [{name: column[row] for name, column in columns.items()} for row in range(4)]
    alone = [classify(row) for row in rows]
    lazily = classify((row for row in rows), batch_size=2)
    for together in (classify(rows), classify(rows, batch_size=3), list(lazily)):
        for one, other in zip(together, alone, strict=True):
            assert one["captions"] == other["captions"]
            for kind in ("genres", "subgenres"):
                assert [label["label"] for label in one[kind]] == [label["label"] for label in other[kind]]
                scores = [[label["score"] for label in found[kind]] for found in (one, other)]
                torch.testing.assert_close(*map(torch.tensor, scores))


@pytest.mark.parametrize("track", [{}, {"lyrics": None}, {"words": "la"}, "la la la"])
def test_a_track_of_which_nothing_is_known_is_refused(classify: Pipeline, track: dict | str) -> None:
    with pytest.raises(ValueError, match="a track is a dict with lyrics, captions, audio_embeds, audio, or some"):
        classify(track)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_track_without_a_window_ends_a_list_with_its_reason(hearing: tuple[Pipeline, str], batch_size: int) -> None:
    classify, song = hearing
    bad = {"audio": {"array": [0.5] * 11, "sampling_rate": 384_000}}
    with pytest.raises(ValueError, match="lasts"):
        classify([{"audio": song}, bad, {"audio": song}], batch_size=batch_size)
    assert classify([]) == []


def test_an_instrumental_without_words_still_has_a_genre(classify: Pipeline) -> None:
    found = classify({"lyrics": "", "captions": []})
    assert found["genres"] and found["captions"] == []


def test_sound_is_heard_by_the_captioner_as_in_training(hearing: tuple[Pipeline, str]) -> None:
    classify, song = hearing
    captioner = Listener.load(classify.model.config.captioner, device="cpu", num_beams=1)
    (heard,) = TrackListener(captioner, QUESTIONS).hear([("song", Path(song))])
    found = classify([{"audio": song, "lyrics": LYRICS}], batch_size=2)[0]
    captions = [one for one in heard.sentences(QUESTIONS) if one.strip()]
    assert found["captions"] == captions
    given = classify({"lyrics": LYRICS, "captions": captions, "audio_embeds": heard.audio_embeds})
    assert [one["label"] for one in given["genres"]] == [one["label"] for one in found["genres"]]
    assert given["genres"][0]["score"] == pytest.approx(found["genres"][0]["score"], abs=1e-4)
    array = {"array": load_audio(song), "sampling_rate": 16_000}
    assert classify({"audio": array, "lyrics": LYRICS})["captions"] == captions


def test_what_is_given_is_not_heard_again(hearing: tuple[Pipeline, str]) -> None:
    classify, _ = hearing
    found = classify({"audio": "nowhere.wav", "captions": "A calm piano.", "audio_embeds": [0.0] * 16})
    assert found["captions"] == ["A calm piano."]


def test_a_captioner_may_be_given_loaded_or_by_name(hearing: tuple[Pipeline, str], classify: Pipeline) -> None:
    own, song = hearing
    with pytest.raises(ValueError, match="the model names no captioner"):
        classify({"audio": song})
    loaded = pipeline("music-question-answering", model=own.model.config.captioner, device="cpu")
    for captioner in (loaded, own.model.config.captioner):
        with pytest.raises(ValueError, match=r"has the shape \(16,\), the model needs \(6,\)"):
            classify({"audio": song}, captioner=captioner)
    assert classify({"audio": song, "audio_embeds": [0.0] * AUDIO_DIM}, captioner=loaded)["captions"]


def test_a_captioner_that_is_gone_is_named(hearing: tuple[Pipeline, str]) -> None:
    classify, song = hearing
    with pytest.raises(ValueError, match="captioner /nowhere/captioner cannot be loaded"):
        classify({"audio": song}, captioner="/nowhere/captioner")


def test_a_captioner_inside_the_models_folder_goes_before_its_old_place(tmp_path: Path) -> None:
    folder = save_tiny_subgenre(tmp_path / "model", audio_dim=16, captioner="somewhere/else")
    classify = pipeline(TASK, model=str(folder), device="cpu")
    assert classify.model.config.find_captioner() == "somewhere/else"
    save_tiny_model(folder / "captioner")
    assert classify.model.config.find_captioner() == str(folder / "captioner")


def test_a_saved_pipeline_is_a_whole_model_folder(classify: Pipeline, tmp_path: Path) -> None:
    classify.save_pretrained(tmp_path)
    again = pipeline(TASK, model=str(tmp_path), device="cpu")
    assert again({"lyrics": LYRICS}) == classify({"lyrics": LYRICS})

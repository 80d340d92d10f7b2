"""Tracks joined with hearings, and batches of them."""

import json

import numpy as np
import pytest
import torch
from tiny import save_tiny_model
from tiny_classifier import build_classifier, make_examples
from tiny_tracks import RECIPE, write_tracks

from descant.data.splits import ClipHashes
from descant.models.subgenre import SubgenreProcessor
from descant.publish.facts import write_records
from descant.subgenre.examples import (
    Example,
    ExampleCollator,
    ExampleInputs,
    build_inputs,
    decide,
    gather_examples,
    join_inputs,
    predict_probabilities,
    read_corpus,
    read_data,
)
from descant.subgenre.hearing import CaptionerAnswer, TrackHearing
from descant.subgenre.labels import LabelTree, Track
from descant.training.start import train_tokenizer

TREE = LabelTree({"jazz": ("swing",), "pop": ("disco", "swing")})


@pytest.fixture(scope="module")
def processor():
    tokenizer = train_tokenizer(["love in the rain"], 300)
    return SubgenreProcessor(tokenizer, window_tokens=8, overlap_tokens=2, audio_dim=3)


def make_example(name: str, lyrics: str | None = "love", captions: tuple = ("slow",), audio: bool = True) -> Example:
    return Example(name, lyrics, captions, np.ones(3, np.float32) if audio else None, np.zeros(5, np.float32))


def test_labels_hold_the_genres_of_subgenres_too():
    track = Track("a", None, "la la", None, "jazz", ("pop---swing",), None, "train", "test")
    (example,) = gather_examples([track], {}, [], TREE)
    assert dict(zip([*TREE.genres, *TREE.subgenres], example.labels, strict=True)) == {
        "jazz": 1, "pop": 1, "jazz---swing": 0, "pop---disco": 0, "pop---swing": 1,
    }  # fmt: skip


def test_captions_are_the_answers_to_the_questions_that_count_and_a_track_not_heard_has_none():
    tracks = [Track(name, None, None, None, "jazz", (), None, "train", "test") for name in ("a", "b", "c")]
    given = [(0, 10, "genre?", "jazz"), (0, 10, "which of these?", "pop"), (10, 20, "genre?", " ")]
    answers = tuple(CaptionerAnswer(*one) for one in given)
    hearings = {"a": TrackHearing("a", answers, np.ones(3)), "b": TrackHearing("b", error="bad file")}
    heard, bad, unheard = gather_examples(tracks, hearings, ["genre?"], TREE)
    assert heard.captions == ("jazz",) and heard.audio_embeds is not None
    assert bad.is_empty and unheard.is_empty


def test_a_batch_holds_what_each_track_has(processor):
    examples = [make_example("a"), make_example("b", "love in the rain " * 9, None, False), make_example("c", None)]
    joined = join_inputs([build_inputs(one, processor) for one in examples], processor.tokenizer.pad_token_id)
    whole = processor(
        lyrics=[one.lyrics for one in examples], captions=[one.captions for one in examples],
        audio_embeds=[one.audio_embeds for one in examples], return_tensors="pt",
    )  # fmt: skip
    assert joined.keys() == whole.keys()
    assert all(torch.equal(joined[name], whole[name]) for name in whole)


def test_training_reads_other_windows_of_a_long_text_in_each_epoch(processor):
    inputs = ExampleInputs([make_example("long", "love in the rain " * 40), make_example("short")], processor)
    collate = ExampleCollator(processor.tokenizer.pad_token_id, train_windows=2, seed=1)
    drawn = [collate([inputs[0, epoch], inputs[1, epoch]]) for epoch in range(5)]
    again = collate([inputs[0, 3], inputs[1, 3]])
    assert all((one["text_kind"] == 0).sum() == 3 for one in drawn)  # two of the long one, one of the short one
    assert len({tuple(one["text_input_ids"].flatten().tolist()) for one in drawn}) > 1
    assert torch.equal(again["text_input_ids"], drawn[3]["text_input_ids"])
    everything = collate([inputs[0], inputs[1]])
    assert len(everything["text_kind"]) == inputs.lengths.sum()


def test_hidden_modalities_are_gone(processor):
    kept = make_example("a").keep(("audio",))
    assert kept.lyrics is None and kept.captions is None and kept.audio_embeds is not None
    assert build_inputs(kept, processor)["modality_mask"].tolist() == [[0, 0, 1]]


@pytest.fixture(scope="module", params=["late", "cross_attention"])
def classifier(request):
    return build_classifier(request.param)


@pytest.mark.parametrize("seen", [("lyrics", "captions", "audio"), ("captions",), ("lyrics", "audio"), ()])
def test_hiding_a_modality_is_as_if_the_track_had_none_of_it(classifier, seen):
    model, processor = classifier
    pad = processor.tokenizer.pad_token_id
    hidden = predict_probabilities(model, ExampleInputs(make_examples(), processor), pad, 3, seen)
    lacking = ExampleInputs([example.keep(seen) for example in make_examples()], processor)
    np.testing.assert_allclose(hidden, predict_probabilities(model, lacking, pad, 1), atol=1e-6)


def test_no_subgenre_is_decided_without_its_genre(classifier):
    model, _ = classifier
    model.config.thresholds = {"jazz": 0.9, "pop": 0.9, "jazz---swing": 0.1, "pop---disco": 0.5, "pop---ballad": 0.5}
    model.config.threshold_scales = {"lyrics": 0.9}
    likely = np.array([[0.4, 0.6, 0.3, 0.35, 0.29]] * 2, np.float32)
    told = decide(likely, model.config, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    model.config.thresholds = model.config.threshold_scales = {}
    assert told.chosen.tolist() == [[False, True, False], [False, True, True]]


def test_a_track_that_cannot_be_heard_keeps_its_lyrics_and_one_without_either_is_left_out(tmp_path, caplog):
    table = write_tracks(tmp_path)
    for name in ("swing-0", "swing-2"):  # the second is an instrumental
        (tmp_path / f"{name}.wav").write_bytes(b"no sound")
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    data = read_data(read_corpus(str(table)), captioner, RECIPE.questions, str(tmp_path / "features"))
    kept = {example.track_id: example for example in data.examples["train"]}
    assert kept["swing-0"].lyrics and kept["swing-0"].audio_embeds is None
    assert "swing-2" not in kept and kept["bebop-2"].audio_embeds is not None
    assert "the sound of 2 of 24 tracks could not be read, swing-0 first" in caplog.text
    assert "1 training tracks have neither lyrics nor sound" in caplog.text


def test_without_a_captioner_lyrics_alone_are_read(tmp_path, caplog):
    table = write_tracks(tmp_path, audio=False)
    data = read_data(read_corpus(str(table)), None, RECIPE.questions, str(tmp_path / "features"))
    assert all(one.captions is None and one.audio_embeds is None for one in data.examples["train"])
    assert data.audio_dim == 1 and "only lyrics are read" in caplog.text


def test_tracks_without_a_split_get_one_by_artist(tmp_path):
    rows = [{"id": f"{genre}{n}", "genre": genre, "lyrics": "la la", "artist": f"{genre} {n // 2}"}
            for genre in ("jazz", "pop") for n in range(20)]  # fmt: skip
    table = tmp_path / "own.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = read_corpus(str(table))
    splits = {}
    for track in corpus.tracks:
        splits.setdefault(track.artist, set()).add(track.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {track.split for track in corpus.tracks} == {"train", "validation", "test"}


def test_a_captioner_that_was_trained_on_test_tracks_is_named(tmp_path, caplog):
    table = write_tracks(tmp_path)
    captioner = save_tiny_model(tmp_path / "captioner")
    write_records(captioner, [], {"swing-5": ClipHashes("0" * 64)}, None)
    read_data(read_corpus(str(table)), str(captioner), RECIPE.questions, str(tmp_path / "features"))
    assert "leak: the captioner was trained on 1 test tracks, swing-5 first" in caplog.text


def test_nothing_to_read_is_refused(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("id,genre,audio,split\na,jazz,a.wav,train\nb,pop,b.wav,train\n")
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="no training track has lyrics or audio"):
        read_data(read_corpus(str(table)), None, (), str(tmp_path / "features"))

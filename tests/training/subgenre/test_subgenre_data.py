"""The tracks of a run joined with what was heard: what is missing is named, and the rest is used."""

import json

import pytest
from tiny import save_tiny_model
from tiny_tracks import RECIPE, read_settings, write_tracks

from descant.training.records import write_records
from descant.training.subgenre.data import read_corpus, read_data


def test_a_track_that_cannot_be_heard_keeps_its_lyrics_and_one_without_either_is_left_out(tmp_path, caplog):
    settings = read_settings(tmp_path, "--dataset", str(write_tracks(tmp_path)))
    for name in ("swing-0", "swing-2"):  # the second is an instrumental
        (tmp_path / f"{name}.wav").write_bytes(b"no sound")
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    data = read_data(read_corpus(settings), captioner, RECIPE.questions, settings)
    kept = {example.track_id: example for example in data.examples["train"]}
    assert kept["swing-0"].lyrics and kept["swing-0"].audio_embeds is None
    assert "swing-2" not in kept and kept["bebop-2"].audio_embeds is not None
    assert "2 of 24 tracks could not be heard, swing-0 first" in caplog.text
    assert "1 training tracks have neither lyrics nor sound" in caplog.text


def test_without_a_captioner_lyrics_alone_are_read(tmp_path, caplog):
    settings = read_settings(tmp_path, "--dataset", str(write_tracks(tmp_path, audio=False)))
    data = read_data(read_corpus(settings), None, RECIPE.questions, settings)
    assert all(one.captions is None and one.audio_embeds is None for one in data.examples["train"])
    assert data.audio_dim == 1 and "only lyrics are read" in caplog.text


def test_tracks_without_a_split_get_one_by_artist(tmp_path):
    rows = [{"id": f"{genre}{n}", "genre": genre, "lyrics": "la la", "artist": f"{genre} {n // 2}"}
            for genre in ("jazz", "pop") for n in range(20)]  # fmt: skip
    table = tmp_path / "own.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = read_corpus(read_settings(tmp_path, "--dataset", str(table)))
    splits = {}
    for track in corpus.tracks:
        splits.setdefault(track.artist, set()).add(track.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {track.split for track in corpus.tracks} == {"train", "validation", "test"}


def test_a_captioner_that_was_trained_on_test_tracks_is_named(tmp_path, caplog):
    settings = read_settings(tmp_path, "--dataset", str(write_tracks(tmp_path)))
    captioner = save_tiny_model(tmp_path / "captioner")
    write_records(captioner, [], {"swing-5": "0" * 64}, None)
    read_data(read_corpus(settings), str(captioner), RECIPE.questions, settings)
    assert "leak: the captioner was trained on 1 test tracks, swing-5 first" in caplog.text


def test_nothing_to_read_is_refused(tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("id,genre,audio,split\na,jazz,a.wav,train\nb,pop,b.wav,train\n")
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"no sound")
    settings = read_settings(tmp_path, "--dataset", str(table))
    with pytest.raises(ValueError, match="no training track has lyrics or audio"):
        read_data(read_corpus(settings), None, (), settings)

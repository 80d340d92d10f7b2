"""Records become tracks with labels of the tree; whatever is wrong is named, and the rest goes on."""

from pathlib import Path

import pytest

from descant.data.tracks.label_tree import LabelTree
from descant.data.tracks.track_records import TrackRecord, read_records, tree_of

TREE = LabelTree({"pop": ("disco", "ballad"), "electronic": ("house", "disco"), "rock": ("punk",)})


def record(**fields) -> TrackRecord:
    usual = {"place": "t.csv:2", "track_id": "a", "audio": None, "genre": "pop", "lyrics": "hey you"}
    return TrackRecord(**usual | fields)


def test_labels_take_the_trees_spelling_and_a_bare_name_the_tracks_own_genre():
    labels = (" Pop--- Ballad", "disco", "PUNK", "electronic---disco", "disco")
    (track,) = read_records([record(genre=" POP ", subgenres=labels)], TREE, "x").tracks
    assert track.genre == "pop"
    assert track.subgenres == ("pop---ballad", "pop---disco", "rock---punk", "electronic---disco")


def test_a_label_that_is_not_in_the_tree_is_named_and_the_track_kept():
    found = read_records([record(subgenres=("polka", "ballad"))], TREE, "x")
    assert found.tracks[0].subgenres == ("pop---ballad",)
    assert found.problems == ["t.csv:2: a: subgenre 'polka' is not in the label tree; the track is kept without it"]


def test_a_track_of_another_genre_or_of_a_known_id_is_left_out():
    rows = [record(genre="polka"), record(track_id="b"), record(track_id="b", place="t.csv:4")]
    found = read_records(rows, TREE, "x")
    assert [track.track_id for track in found.tracks] == ["b"]
    assert found.problems == [
        "t.csv:2: a: genre 'polka' is not in the label tree; left out",
        "t.csv:4: b: the same id stands in t.csv:2; left out",
    ]


def test_missing_sound_leaves_the_lyrics_and_missing_both_leaves_the_track_out():
    rows = [record(audio=Path("none.mp3")), record(track_id="b", lyrics=None)]
    found = read_records(rows, TREE, "x")
    assert [(track.audio, track.lyrics) for track in found.tracks] == [(None, "hey you")]
    assert "audio none.mp3 is not there" in found.problems[0]
    assert found.problems[1] == "t.csv:2: b: has neither audio nor lyrics; left out"


def test_bad_lyrics_count_as_none_and_instrumentals_are_noted(tmp_path):
    (tmp_path / "a.ogg").write_bytes(b"OggS")
    (tmp_path / "a.txt").write_bytes(b"\0\0")
    rows = [record(audio=tmp_path / "a.ogg", lyrics=None), record(track_id="b", audio=tmp_path / "a.ogg",
                                                                 lyrics="[Instrumental]")]  # fmt: skip
    found = read_records(rows, TREE, "x")
    assert [(track.lyrics, track.language) for track in found.tracks] == [(None, None)] * 2
    assert len(found.problems) == 1 and "NUL bytes" in found.problems[0]
    assert "t.csv:2: b: is marked as instrumental" in found.notes


def test_language_is_detected_where_it_is_not_given():
    words = "ich weiß nicht warum du immer noch nicht schläfst"
    rows = [record(lyrics=words), record(track_id="b", lyrics=words, language="nds")]
    assert [track.language for track in read_records(rows, TREE, "x").tracks] == ["de", "nds"]


@pytest.mark.parametrize("label", ["pop---", "---", "a---b---c"])
def test_the_tree_of_records_takes_whole_labels_only(label):
    rows = [record(subgenres=("disco", "Electronic---House", label)), record(genre="reggae"), record(genre=label)]
    assert tree_of(rows).branches == {"Electronic": ("House",), "pop": ("disco",), "reggae": ()}

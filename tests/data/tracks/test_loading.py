"""A collection is read by whatever names it, with its own tree or a given one."""

import json
import shutil

import pytest

from descant.data.demo import demo_dir
from descant.data.tracks import LabelTree, load_tracks

ROWS = "id,genre,subgenres,lyrics\n1,pop,disco,la la\n2,rock,punk,hey hey\n"


@pytest.fixture
def table(tmp_path):
    (tmp_path / "songs.csv").write_text(ROWS)
    return tmp_path / "songs.csv"


def test_the_demo_corpus_is_read():
    corpus = load_tracks("demo")
    assert (len(corpus.tracks), len(corpus.tree.genres), len(corpus.tree.subgenres)) == (666, 12, 36)
    assert corpus.problems == [] and len(corpus.notes) >= sum(track.lyrics is None for track in corpus.tracks)


def test_a_table_is_read_alone_or_as_the_one_table_of_a_folder(table, tmp_path):
    one, other = load_tracks(str(table)), load_tracks(tmp_path)
    assert one.tracks and [t.subgenres for t in one.tracks] == [("pop---disco",), ("rock---punk",)]
    assert one.tree == other.tree and one.revision == other.revision and one.id == "songs"
    (tmp_path / "more.csv").write_text(ROWS)
    with pytest.raises(ValueError, match="several tables"):
        load_tracks(tmp_path)


def test_labels_come_from_the_given_tree_else_from_the_file_beside(table, tmp_path):
    LabelTree({"pop": ("disco",), "rock": ()}).write(tmp_path / "label_tree.json")
    beside = load_tracks(table)
    assert beside.tree.subgenres == ("pop---disco",) and "'rock---punk'" not in beside.problems[0]
    assert "subgenre 'punk' is not in the label tree" in beside.problems[0]
    given = load_tracks(table, LabelTree({"pop": ("disco",)}))
    assert [track.track_id for track in given.tracks] == ["1"] and "genre 'rock'" in given.problems[0]


def test_sound_is_found_by_id_in_the_audio_folder(table, tmp_path):
    (tmp_path / "sound").mkdir()
    shutil.copy(next((demo_dir() / "audio").iterdir()), tmp_path / "sound" / "2.ogg")
    tracks = load_tracks(table, audio_dir=tmp_path / "sound").tracks
    assert [track.audio for track in tracks] == [None, tmp_path / "sound" / "2.ogg"]
    with pytest.raises(ValueError, match="no such folder"):
        load_tracks(table, audio_dir=tmp_path / "none")


def test_the_ludwig_layout_is_told_by_its_labels_file(tmp_path):
    labels = {"tracks": {"a": {"genre": "pop", "subgenres": ["pop---ballad"]}}}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    (tmp_path / "mp3" / "pop").mkdir(parents=True)
    shutil.copy(next((demo_dir() / "audio").iterdir()), tmp_path / "mp3" / "pop" / "a.ogg")
    corpus = load_tracks(tmp_path)
    assert corpus.licence == "cc-by-nc-sa-4.0" and corpus.tree.subgenres == ("pop---ballad",)


def test_a_row_whose_genre_is_no_name_is_left_out_and_the_rest_goes_on(tmp_path):
    (tmp_path / "songs.csv").write_text("id,genre,lyrics\n1,,la\n2,pop---disco,la\n3,pop,la\n")
    corpus = load_tracks(tmp_path)
    assert [track.track_id for track in corpus.tracks] == ["3"] and corpus.tree.branches == {"pop": ()}
    assert [problem.split(": ")[2] for problem in corpus.problems] == [
        "genre '' is not in the label tree; left out", "genre 'pop---disco' is not in the label tree; left out",
    ]  # fmt: skip


def test_what_is_not_there_or_of_no_use_is_refused_in_a_sentence(table, tmp_path):
    with pytest.raises(ValueError, match="is neither `demo`, a table"):
        load_tracks(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no track that can be used: .*genre 'pop' is not in the label tree"):
        load_tracks(table, LabelTree({"polka": ()}))
    table.unlink()
    with pytest.raises(ValueError, match="no sound files in it"):
        load_tracks(tmp_path)

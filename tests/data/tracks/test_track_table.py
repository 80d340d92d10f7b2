"""Tables in the general form become records; every bad row is named."""

import json

import pytest

from descant.data.tables import AnnotationError
from descant.data.tracks.track_table import read_track_table


def test_all_columns_of_a_csv_are_read(tmp_path):
    path = tmp_path / "songs.csv"
    path.write_text(
        "id,audio,lyrics,lyrics_file,artist,genre,subgenres,language,split\n"
        '1,a.mp3,"la\nla",w.txt,Ada,pop,disco; rock---punk ;,en,test\n,dir/b.mp3,, ,,rock,,,\n'
    )
    (one, two), problems = read_track_table(path)
    assert problems == []
    assert (one.track_id, one.audio, one.lyrics) == ("1", tmp_path / "a.mp3", "la\nla")
    assert (one.lyrics_file, one.artist, one.language, one.split) == (tmp_path / "w.txt", "Ada", "en", "test")
    assert one.subgenres == ("disco", "rock---punk")
    assert (two.track_id, two.lyrics, two.lyrics_file, two.artist, two.subgenres) == ("b", None, None, None, ())


def test_lists_of_labels_and_numbers_as_ids_are_read_from_json_lines(tmp_path):
    path = tmp_path / "songs.jsonl"
    path.write_text(json.dumps({"id": 7, "genre": "pop", "subgenres": ["disco", " "], "lyrics": "la"}) + "\n")
    (record,), _ = read_track_table(path)
    assert (record.track_id, record.subgenres, record.audio) == ("7", ("disco",), None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "a\nb"}, "control characters"),
        ({"id": ""}, "is empty"),
        ({"split": "dev"}, "split 'dev' is none of train, validation, test"),
        ({"subgenres": 3}, "subgenres 3 is neither a list"),
        ({"lyrics": ["la"]}, "lyrics are no text but list"),
        ({"artist": {"name": "A"}}, "is no text"),
        ({"audio": "a\0.mp3"}, "NUL"),
    ],
)
def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path, fields, reason):
    path = tmp_path / "songs.jsonl"
    good = {"id": "good", "genre": "pop"}
    path.write_text("\n".join(json.dumps(row) for row in (good | {"id": "bad"} | fields, good)))
    records, problems = read_track_table(path)
    assert [record.track_id for record in records] == ["good"]
    assert len(problems) == 1 and problems[0].startswith("songs.jsonl:1: ") and reason in problems[0]


def test_broken_records_are_named(tmp_path):
    (tmp_path / "songs.jsonl").write_text('{"id": "a", "genre": "pop"}\n{"id": \n{"id": "c"}\n')
    records, problems = read_track_table(tmp_path / "songs.jsonl")
    assert len(records) == 1 and ["broken JSON" in problems[0], "has no genre" in problems[1]] == [True, True]


def test_a_table_without_the_columns_is_refused(tmp_path):
    (tmp_path / "songs.csv").write_text("id,artist\n1,A\n")
    with pytest.raises(AnnotationError, match="missing column"):
        read_track_table(tmp_path / "songs.csv")

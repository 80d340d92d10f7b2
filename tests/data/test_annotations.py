"""Annotation files of every kind and damage become rows, or named problems."""

import csv
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from descant.data.annotations import (
    CAPTIONS,
    AnnotationError,
    clip_windows,
    make_clip_id,
    parse_clip_id,
    read_annotations,
    read_lp_musiccaps_mc,
    read_music_instruct,
    read_musiccaps,
    read_own,
)

HEADER = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
HEADER += "is_audioset_eval\n"


def caps_line(ytid: str = "abcdefghijk", start="30", end="40", caption: str = "a song", test: str = "False") -> str:
    return f"{ytid},{start},{end},/m/04rlf,['pop'],{caption},4,False,{test}\n"


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_musiccaps_row_carries_clip_id_window_and_published_split(tmp_path):
    found = read_musiccaps(write(tmp_path / "a.csv", HEADER + caps_line("-0Gj8-vB1q4", test="True")))
    assert found.problems == []
    (row,) = found.rows
    assert (row.clip_id, row.start_s, row.end_s) == ("[-0Gj8-vB1q4]-[30-40]", 30.0, 40.0)
    assert (row.question, row.answer, row.source, row.split) == (None, "a song", "musiccaps", "test")


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    found = read_musiccaps(write(tmp_path / "a.csv", HEADER + caps_line(), "utf-8-sig"))
    assert len(found.rows) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (caps_line(caption="caf\xe9 music"), "not UTF-8"),
        (caps_line(start="40", end="30"), "does not come after"),
        (caps_line(start="nan"), "does not come after"),
        (caps_line(start="x"), "not seconds"),
        (caps_line("../../etc/x"), "not a YouTube id"),
        (caps_line("$(touch x)"), "not a YouTube id"),
        (caps_line("a;rm -rf x"), "not a YouTube id"),
        (caps_line("'a\tb'"), "not a YouTube id"),
        (caps_line(caption="  "), "caption is empty"),
        (caps_line(test="maybe"), "neither true nor false"),
        ("abcdefghijk,30,40\n", "has 3 fields"),
        ('x,30,40,a,b,"never closed\n', "broken CSV"),
    ],
)
def test_bad_musiccaps_line_is_named_and_the_rest_is_read(tmp_path, line, reason):
    path = write(tmp_path / "a.csv", HEADER + caps_line("good1") + line, "latin-1")
    found = read_musiccaps(path)
    assert [row.clip_id for row in found.rows] == ["[good1]-[30-40]"]
    assert found.problems[0].row == 3 and found.problems[0].file == str(path)
    assert reason in found.problems[0].reason


def test_rows_after_a_bad_line_are_read(tmp_path):
    found = read_musiccaps(write(tmp_path / "a.csv", HEADER + caps_line("..") + caps_line("good1")))
    assert [row.clip_id for row in found.rows] == ["[good1]-[30-40]"]


def test_second_row_of_a_clip_is_refused_and_names_the_first(tmp_path):
    found = read_musiccaps(write(tmp_path / "a.csv", HEADER + caps_line() + caps_line(caption="other")))
    assert [row.answer for row in found.rows] == ["a song"]
    assert "row 2" in found.problems[0].reason and found.problems[0].row == 3


def test_missing_column_refuses_the_file_by_name(tmp_path):
    path = write(tmp_path / "a.csv", "ytid,start_s,end_s,is_audioset_eval\nx,1,2,True\n")
    with pytest.raises(AnnotationError, match=r"a\.csv:1: missing column caption"):
        read_musiccaps(path)


def test_file_that_is_not_there_is_an_annotation_error(tmp_path):
    with pytest.raises(AnnotationError, match=r"none\.csv: cannot be read"):
        read_musiccaps(tmp_path / "none.csv")


def question(**changes) -> dict:
    return {"ytid": "abcdefghijk", "question": "What?", "answer": "Jazz.", "is_audioset_eval": False} | changes


def test_music_instruct_takes_the_window_of_its_musiccaps_clip(tmp_path):
    path = write(tmp_path / "mi.json", json.dumps({"QA": [question(), question(ytid="nobody")]}))
    found = read_music_instruct(path, {"abcdefghijk": (30.0, 40.0)}, source="music_instruct_short")
    (row,) = found.rows
    assert (row.clip_id, row.question, row.answer) == ("[abcdefghijk]-[30-40]", "What?", "Jazz.")
    assert (row.source, row.split) == ("music_instruct_short", "train")
    assert found.problems[0].row == 2 and found.problems[0].clip_id == "nobody"


def test_music_instruct_without_windows_is_known_by_ytid(tmp_path):
    path = write(tmp_path / "mi.json", json.dumps({"QA": [question(), question(start_s=5, end_s=15)]}))
    assert [row.clip_id for row in read_music_instruct(path).rows] == ["abcdefghijk", "[abcdefghijk]-[5-15]"]


BAD_QUESTIONS = [question(answer=" "), question(answer=None), question(question=3), {"ytid": "a"}, "text"]


@pytest.mark.parametrize("bad", BAD_QUESTIONS)
def test_bad_question_is_named_by_its_position(tmp_path, bad):
    path = write(tmp_path / "mi.json", json.dumps({"QA": [question(), bad, question()]}))
    found = read_music_instruct(path)
    assert len(found.rows) == 2 and [problem.row for problem in found.problems] == [2]


def test_cut_off_json_gives_every_whole_record_and_names_the_damage(tmp_path):
    text = json.dumps({"QA": [question(), question(), question()]})
    found = read_music_instruct(write(tmp_path / "mi.json", text[:-30]))
    assert len(found.rows) == 2
    assert found.problems[0].row == 3 and "broken JSON" in found.problems[0].reason


def test_own_csv_of_questions_and_jsonl_of_captions(tmp_path):
    csv = write(tmp_path / "own.csv", "audio,question,answer,split\nsongs/a b.wav,What?,Jazz,test\n")
    (row,) = read_own(csv).rows
    assert (row.clip_id, row.audio, row.split) == ("a b", str(tmp_path / "songs/a b.wav"), "test")
    (row,) = read_own(write(tmp_path / "own.jsonl", '{"audio": "a.wav", "caption": "a song"}\n')).rows
    assert (row.question, row.answer, row.split, row.end_s) == (None, "a song", None, 10.0)


def test_half_written_jsonl_line_is_named(tmp_path):
    path = write(tmp_path / "own.jsonl", '{"audio": "a.wav", "caption": "x"}\n{"audio": "b.wav", "cap')
    found = read_own(path)
    assert len(found.rows) == 1 and found.problems[0].row == 2


def test_own_rows_of_two_files_with_one_stem_need_a_clip_id(tmp_path):
    lines = "audio,caption,clip_id\nx/a.wav,one,\ny/a.wav,two,\ny/a.wav,three,other\n"
    found = read_own(write(tmp_path / "own.csv", lines))
    assert [row.clip_id for row in found.rows] == ["a", "other"]
    assert found.problems[0].row == 3 and "clip_id column" in found.problems[0].reason


def test_own_rows_that_give_one_clip_id_to_two_windows_are_named(tmp_path):
    lines = "audio,caption,clip_id,start_s,end_s\na.wav,one,x,0,10\na.wav,two,x,0,10\na.wav,three,x,20,30\n"
    found = read_own(write(tmp_path / "own.csv", lines + "a.wav,four,,20,30\n"))
    assert [row.answer for row in found.rows] == ["one", "two", "four"]
    (problem,) = found.problems
    assert problem.row == 4 and "from 20 to 30 s where row 2 names" in problem.reason


NAMES = [
    "夜に\u3000駆ける", "a\xa0b", "family\U0001f468\u200d\U0001f469", "cafe\u0301", "x\u200e",
    'say "hi"', "-q", "a, b", "n" * 250,
    " both sides ", ".hidden",
]  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_own_table_takes_the_names_that_a_file_system_takes(tmp_path, form):
    files = [tmp_path / f"{name}.wav" for name in NAMES]
    for file in files:
        file.touch()
    path = tmp_path / f"own.{form}"
    with path.open("w", newline="", encoding="utf-8") as table:
        if form == "csv":
            csv.writer(table).writerows([["audio", "caption"], *([file.name, "a song"] for file in files)])
        else:
            table.writelines(json.dumps({"audio": file.name, "caption": "a song"}) + "\n" for file in files)
    found = read_own(path)
    assert found.problems == []
    assert [row.clip_id for row in found.rows] == [file.stem for file in files]
    assert [row.audio for row in found.rows] == list(map(str, files))


@pytest.mark.parametrize("name", ["two\nlines", "tab\t", "\x85", "\x9f", "\u2028", "\u2029", "\x1b[2J"])
def test_own_name_with_a_control_character_is_refused_for_that(tmp_path, name):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"audio": f"a{name}x.wav", "caption": "a song"}) + "\n")
    (problem,) = read_own(path).problems
    assert "holds a control character or line break" in problem.reason and "empty" not in problem.reason
    path.write_text(json.dumps({"audio": f"{name}.wav", "caption": "a song", "clip_id": "fine"}) + "\n")
    assert [row.clip_id for row in read_own(path).rows] == ["fine"]


BAD_OWN = [
    ({"answer": float("nan")}, "answer is empty"),
    ({"audio": None}, "audio is empty"),
    ({"audio": "a\0.wav"}, "audio holds a NUL character"),
    ({"question": "a\0?"}, "question holds a NUL character"),
    ({"audio": {"path": "a.wav"}}, "audio is dict, not text"),
    ({"question": ["Q?"]}, "question is list, not text"),
    ({"answer": 5}, "answer is int, not text"),
    ({"tags": 5}, "tags is int, not a list of texts"),
    ({"tags": {"a": 1}}, "tags is dict, not a list of texts"),
    ({"aspect_list": "[" + "-" * 100_000}, "is not a list"),
    ({"clip_id": ["x"]}, "clip_id is list, not text"),
    ({"split": {}}, "split is dict, not text"),
    ({"start_s": 0, "end_s": int("1" * 400)}, "are not seconds"),
    ({"start_s": "NaN", "end_s": "5"}, "does not come after"),
    ({"start_s": [0], "end_s": 5}, "start_s is list, not text"),
    ({"end_s": 5}, "has end_s alone"),
]


@pytest.mark.parametrize(("fields", "reason"), BAD_OWN)
def test_field_of_another_type_is_named_and_the_next_row_is_read(tmp_path, fields, reason):
    good = {"audio": "good.wav", "question": "Q?", "answer": "A."}
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good | {"audio": "bad.wav"} | fields, good)))
    found = read_own(path)
    assert [row.clip_id for row in found.rows] == ["good"]
    assert [problem.row for problem in found.problems] == [1] and reason in found.problems[0].reason


def test_nan_means_nothing_where_a_field_is_optional(tmp_path):
    names = ("clip_id", "split", "question_type", "start_s", "end_s", "tags", "aspect_list")
    record = {"audio": "a.wav", "question": "Q?", "answer": "A."} | dict.fromkeys(names, float("nan"))
    path = write(tmp_path / "own.jsonl", json.dumps(record))
    (row,) = read_own(path).rows
    assert (row.clip_id, row.split, row.question_type, row.end_s, row.tags) == ("a", None, None, 10.0, ())


OWN = {"audio": "a.wav", "question": "Q?", "answer": "A."}
CAPS = {"ytid": "a", "start_s": 0, "end_s": 9, "caption": "x", "is_audioset_eval": True}
QUESTIONS = {"ytid": "a", "question": "x", "answer": "y", "is_audioset_eval": True}


@pytest.mark.parametrize(("record", "source"), [(OWN, "own"), (CAPS, "musiccaps"), (QUESTIONS, "music_instruct")])
@pytest.mark.parametrize("form", ["csv", "broken.jsonl", "blank.jsonl", "json", "wrapped.json", "parquet"])
def test_kind_of_a_table_is_told_by_its_columns_in_every_form(tmp_path, record, source, form):
    path = tmp_path / f"table.{form}"
    if form == "csv":
        path.write_text("\r".join([",".join(record), ",".join(map(str, record.values()))]))
    elif form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), path)
    elif form.endswith(".jsonl"):
        path.write_text(('{"audio": "a.wav", "ytid' if form == "broken.jsonl" else "") + "\n" + json.dumps(record))
    else:
        path.write_text(json.dumps([record] if form == "json" else {"QA": [record]}))
    found = read_annotations(path)
    assert [row.source for row in found.rows] == [source]
    assert len(found.problems) == (form == "broken.jsonl")


def test_table_of_no_kind_says_what_is_missing_from_the_nearest(tmp_path):
    with pytest.raises(AnnotationError, match="missing column caption; found end_s, is_audioset_eval, start_s, ytid"):
        read_annotations(write(tmp_path / "a.csv", "ytid,start_s,end_s,is_audioset_eval\nx,1,2,True\n"))


@pytest.mark.parametrize("clip_id", ["[a]-[1.2.3-4]", "[a]-[1-]", "[a]-[.-.]", "[a]-[" + "9" * 400 + "-1]"])
def test_id_that_only_looks_like_a_musiccaps_clip_is_an_id_like_any_other(clip_id):
    assert parse_clip_id(clip_id) is None


def test_own_split_outside_the_three_is_named(tmp_path):
    found = read_own(write(tmp_path / "own.csv", "audio,caption,split\na.wav,one,dev\n"))
    assert "'dev'" in found.problems[0].reason


def test_own_file_with_neither_answers_nor_captions_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="missing column"):
        read_own(write(tmp_path / "own.csv", "audio,text\na.wav,one\n"))


def test_clip_id_round_trip_and_windows(tmp_path):
    assert parse_clip_id(make_clip_id("-a_b", 30.0, 40.5)) == ("-a_b", 30.0, 40.5)
    assert parse_clip_id("song") is None
    rows = read_musiccaps(write(tmp_path / "a.csv", HEADER + caps_line())).rows
    assert clip_windows(rows) == {"abcdefghijk": (30.0, 40.0)}


def test_every_row_of_the_published_file_is_read(shared_dir):
    found = read_musiccaps(shared_dir / "data/musiccaps/musiccaps-public.csv")
    assert len(found.rows) == 5521 and found.problems == []
    assert sum(row.split == "test" for row in found.rows) == 2858


CLIPS = {"a": (30.0, 40.0), "b": (0.0, 10.0)}
SPLITS = {"[a]-[30-40]": "train", "[b]-[0-10]": "test"}


def record(ytid: str, **changes: str) -> dict[str, str]:
    return {"fname": "x", "ytid": ytid} | {name: f"{name} of {ytid}" for name in CAPTIONS} | changes


def test_four_captions_of_each_training_clip_and_none_of_a_test_clip(tmp_path):
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record("a"), record("b")]), path)
    found = read_lp_musiccaps_mc([path], CLIPS, SPLITS)
    assert [row.source for row in found.rows] == [
        "lp_musiccaps_mc_writing", "lp_musiccaps_mc_summary", "lp_musiccaps_mc_paraphrase",
        "lp_musiccaps_mc_attribute_prediction",
    ]  # fmt: skip
    assert {(row.clip_id, row.split, row.question) for row in found.rows} == {("[a]-[30-40]", "train", None)}
    assert found.problems == []


def test_unknown_clip_and_empty_caption_are_named(tmp_path):
    path = tmp_path / "train.parquet"
    rows = [record("nobody"), record("a", caption_summary=" ")]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read_lp_musiccaps_mc([path], CLIPS, SPLITS)
    assert len(found.rows) == 3
    reasons = [(problem.row, problem.reason.split()[0]) for problem in found.problems]
    assert reasons == [(1, "has"), (2, "caption_summary")]

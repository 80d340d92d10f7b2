"""Tables of every form give their records, and a place and a reason for each one that is broken."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from descant.data.tables import AnnotationError, Problem, column_names, read_table

REQUIRED = [{"a", "b"}, {"c"}]


def read(path) -> list[tuple[int, object]]:
    return list(read_table(path, REQUIRED))


def write(path, content: str | bytes):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


RECORDS = [{"a": "1", "b": "x, \u2028y"}, {"a": "2", "b": "z"}]


def test_same_records_come_out_of_every_form(tmp_path):
    csv = write(tmp_path / "t.csv", 'a,b\n1,"x, \u2028y"\n2,z\n')
    jsonl = write(tmp_path / "t.jsonl", "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS))
    bare = write(tmp_path / "bare.json", json.dumps(RECORDS))
    wrapped = write(tmp_path / "wrapped.json", json.dumps({"version": 1, "QA": RECORDS}))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "t.parquet")
    for path in (csv, jsonl, bare, wrapped, tmp_path / "t.parquet"):
        assert [record for _, record in read(path)] == RECORDS, path


def test_rows_are_numbered_by_line_also_after_a_field_of_several_lines(tmp_path):
    path = write(tmp_path / "t.csv", 'a,b\n1,"two\nlines"\n\n2,z\n3\n')
    numbered = read(path)
    assert [row for row, _ in numbered] == [2, 5, 6]
    assert str(numbered[2][1]) == f"{path}:6: has 1 fields where the header names 2"


def test_byte_order_mark_is_taken_off(tmp_path):
    assert read(write(tmp_path / "t.csv", b"\xef\xbb\xbfa,b\n1,2\n"))[0][1] == {"a": "1", "b": "2"}
    assert read(write(tmp_path / "t.json", b'\xef\xbb\xbf[{"c": 1}]'))[0][1] == {"c": 1}


def test_record_of_other_bytes_is_a_problem_and_the_next_is_read(tmp_path):
    found = read(write(tmp_path / "t.csv", b"a,b\n1,caf\xe9\n2,z\n"))
    assert isinstance(found[0][1], Problem) and found[1][1] == {"a": "2", "b": "z"}


def test_quote_in_the_wrong_place_costs_its_own_line(tmp_path):
    found = read(write(tmp_path / "t.csv", 'a,b\n1,"x"y\n2,z\n'))
    assert "broken CSV" in found[0][1].reason and found[1][1] == {"a": "2", "b": "z"}


@pytest.mark.parametrize("record", ["text", [1], {"a": 1}])
def test_record_that_lacks_columns_names_them(tmp_path, record):
    ((row, problem),) = read(write(tmp_path / "t.json", json.dumps([record])))
    assert row == 1 and isinstance(problem, Problem)


def test_header_without_the_columns_refuses_the_file(tmp_path):
    with pytest.raises(AnnotationError, match="missing column b or c; found a, x"):
        read(write(tmp_path / "t.csv", "a,x\n1,2\n"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.txt", "x"), ("t.json", "{}"), ("t.json", "3"), ("t.parquet", "x"), ("t.json", '{"a": [], "b": []}')],
)
def test_file_that_is_no_table_is_refused(tmp_path, name, content):
    with pytest.raises(AnnotationError):
        read(write(tmp_path / name, content))


def test_columns_are_told_without_reading_the_table(tmp_path):
    assert column_names(write(tmp_path / "t.csv", "a, b\n")) == {"a", "b"}
    assert column_names(write(tmp_path / "t.jsonl", '{"c": 1}\nbroken')) == {"c"}
    assert column_names(write(tmp_path / "x.jsonl", "broken")) == set()

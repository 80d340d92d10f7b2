"""Tables of every form give their records, and a place and a reason for each one that is broken."""

import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pyarrow
import pyarrow.parquet
import pytest

from descant.data.tables import AnnotationError, Problem, locate, name_problem, read_table
from descant.hub_client import NetworkError

REQUIRED = [frozenset("ab"), frozenset("c")]


def read(path) -> list[tuple[int, object]]:
    return list(read_table(path).select(REQUIRED))


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


def test_field_of_a_megabyte_costs_its_own_line_at_most(tmp_path):
    found = read(write(tmp_path / "t.csv", f"a,b\n{'x' * 1_000_000},1\n2,z\n"))
    assert isinstance(found[0][1], Problem) and found[-1][1] == {"a": "2", "b": "z"}
    (_, record), *_ = read(write(tmp_path / "t.jsonl", json.dumps({"a": "x" * 1_000_000, "b": "z"})))
    assert len(record["a"]) == 1_000_000


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


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_lines_end_as_on_any_system(tmp_path, name, end):
    lines = ["a,b", "1,x", "2,z"] if name == "t.csv" else ['{"a": "1", "b": "x"}', '{"a": "2", "b": "z"}']
    assert [record for _, record in read(write(tmp_path / name, end.join(lines)))] == [
        {"a": "1", "b": "x"}, {"a": "2", "b": "z"},
    ]  # fmt: skip


def test_header_is_the_first_line_that_holds_anything_and_may_hold_a_line_break(tmp_path):
    assert read(write(tmp_path / "t.csv", '\n\n"a\nx",a,b\n1,2,3\n')) == [(5, {"a\nx": "1", "a": "2", "b": "3"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"a"x,b\n1,2\n', r"t\.csv:1: broken CSV in the header"),
        (b"a,b,a\n1,2,3\n", r"t\.csv:1: the header names the column 'a' twice"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a,b\n1,2\n".encode("utf-16-be"), "UTF-16"),
        (b"", "missing column"),
    ],
)
def test_csv_without_a_readable_header_is_refused_by_name(tmp_path, content, message):
    with pytest.raises(AnnotationError, match=message):
        read(write(tmp_path / "t.csv", content))


BROKEN = {
    "cut": ('{"c": "', "broken JSON"),
    "number": ('{"c": ' + "1" * 5000 + "x}", "broken JSON"),
    "deep": ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
    "quote": ('{"c": "x\x00"}', "broken JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_json_line_is_named_and_the_next_is_read(tmp_path, kind):
    text, reason = BROKEN[kind]
    (first, problem), second = read(write(tmp_path / "t.jsonl", text + '\n{"c": 1}\n'))
    assert first == 1 and reason in problem.reason and second == (2, {"c": 1})


@pytest.mark.parametrize("kind", ["deep", "quote", "number"])
def test_broken_record_in_a_json_list_is_named_and_the_next_is_read(tmp_path, kind):
    text, reason = BROKEN[kind]
    found = read(write(tmp_path / "t.json", f'{{"QA": [{{"c": "one, {{two"}},\n {text},\n {{"c": 2}}]}}'))
    assert [record for _, record in found if not isinstance(record, Problem)] == [{"c": "one, {two"}, {"c": 2}]
    assert [(row, reason in record.reason) for row, record in found if isinstance(record, Problem)] == [(2, True)]


def test_number_of_any_length_is_read(tmp_path):
    ((_, record),) = read(write(tmp_path / "t.jsonl", '{"c": ' + "1" * 6000 + "}"))
    assert record == {"c": float("inf")}


def test_surrogates_within_a_list_are_not_text(tmp_path):
    ((_, problem),) = read(write(tmp_path / "t.jsonl", '{"c": ["\\ud800"]}'))
    assert problem.reason == "not UTF-8 text; save the file as UTF-8"


def test_record_nested_beyond_what_python_walks_is_a_problem(tmp_path):
    nested = "[" * 800 + "]" * 800
    found = read(write(tmp_path / "t.jsonl", f'{{"c": {nested}}}\n{{"c": 1}}\n'))
    assert [row for row, _ in found] == [1, 2] and found[1][1] == {"c": 1}


def test_parquet_cell_that_is_no_text_costs_its_own_row(tmp_path):
    column = pyarrow.array([b"x", b"\xff", b"z"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"c": column}), tmp_path / "t.parquet")
    first, (row, problem), last = read(tmp_path / "t.parquet")
    assert (first, last) == ((1, {"c": "x"}), (3, {"c": "z"})) and row == 2 and "utf-8" in problem.reason


def test_messages_stay_short_whatever_a_record_holds(tmp_path):
    problem = name_problem("t.csv", 3, "x" * 1_000_000, ValueError("y" * 1_000_000))
    assert len(str(problem)) < 700 and str(problem).startswith("t.csv:3: xxx")


def test_file_is_taken_whatever_its_name(tmp_path):
    (tmp_path / "x.json").touch()
    assert locate(tmp_path / "x.json", [".csv"]) == [tmp_path / "x.json"]


def test_folder_gives_the_files_of_the_most_exact_ending(tmp_path):
    for name in ("qa_short.json", "qa_long.json", "sub/other.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert locate(tmp_path, ["_short.json", ".json"]) == [tmp_path / "qa_short.json"]
    assert locate(tmp_path, ["both.json", ".json"]) == [tmp_path / "qa_long.json", tmp_path / "qa_short.json"]
    with pytest.raises(ValueError, match=r"holds no file that ends in \.parquet"):
        locate(tmp_path, [".parquet"])


def test_url_is_fetched_and_keeps_its_suffix(tmp_path, monkeypatch, waits):
    (tmp_path / "caps.csv").write_text("a,b\n")

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", tmp_path / "assets")
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        (path,) = locate(f"{address}/caps.csv", [".csv"])
        assert path.suffix == ".csv" and path.read_text() == "a,b\n"
        assert locate(f"{address}/caps.csv", [".csv"]) == [path]
        with pytest.raises(ValueError, match=r"none\.csv cannot be fetched"):
            locate(f"{address}/none.csv", [".csv"])
        server.shutdown()


def test_hub_dataset_gives_its_annotation_file(local_hub, tmp_path):
    local_hub.api().create_repo("tester/caps", repo_type="dataset")
    upload = {"repo_id": "tester/caps", "repo_type": "dataset"}
    local_hub.api().upload_file(path_or_fileobj=b"a,b\n", path_in_repo="musiccaps-public.csv", **upload)
    code = "from descant.data.tables import locate; print(locate('tester/caps', ['.csv'])[0].read_text())"
    done = local_hub.run(tmp_path / "home", "-c", code)
    assert done.stdout.startswith("a,b"), done.stderr


@pytest.mark.parametrize("source", ["nothing here", "../up", "a/b/c"])
def test_what_is_nothing_is_refused(source):
    with pytest.raises(ValueError, match="no such file, folder or Hub dataset"):
        locate(source, [".csv"])


def test_hub_out_of_reach_is_told_in_one_sentence(local_hub, waits):
    with pytest.raises(ValueError, match="neither a file here nor a Hub dataset .* tester/caps is not on http"):
        locate("tester/caps", [".csv"])
    local_hub.fail("reset", times=99)
    with pytest.raises(NetworkError, match="tester/caps: http.* could not be reached in 5 attempts"):
        locate("tester/caps", [".csv"])

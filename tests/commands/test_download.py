"""`descant download` tells the truth: in its table, its ledger and its exit status."""

import json
from pathlib import Path

import pytest
from audio_server import AudioServer, encode, music

from descant.cli import main

HEADER = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
HEADER += "is_audioset_eval\n"


@pytest.fixture
def server():
    with AudioServer() as server:
        yield server


def annotations(folder: Path, *ytids: str) -> str:
    path = folder / "caps.csv"
    path.write_text(HEADER + "".join(f"{ytid},0,2,/m/1,['pop'],a song,4,False,False\n" for ytid in ytids))
    return str(path)


def download(server: AudioServer, table: str, folder: Path, *options: str) -> int:
    return main(["download", table, str(folder), "--sleep", "0", "--url_template", server.template, *options])


def test_all_clips_there_is_status_0_and_a_second_run_asks_nothing(server, tmp_path, capsys):
    server.files |= dict.fromkeys(("-a", "b"), encode(music(4, 16_000), "wav", 16_000))
    table = annotations(tmp_path, "-a", "b")
    assert download(server, table, tmp_path / "clips") == 0
    assert capsys.readouterr().out.split()[:4] == ["ok", "2", "total", "2"]
    asked = len(server.requests)
    assert download(server, table, tmp_path / "clips") == 0
    assert len(server.requests) == asked


def test_missing_clip_and_bad_record_are_status_1_and_named(server, tmp_path, capsys):
    server.files["a"] = encode(music(4, 16_000), "wav", 16_000)
    assert download(server, annotations(tmp_path, "a", "gone", "$(touch x)"), tmp_path / "clips") == 1
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines()[:4]] == [
        ["ok", "1"], ["removed", "1"], ["bad", "records", "1"], ["total", "3"],
    ]  # fmt: skip
    assert "caps.csv:4: $(touch x)" in shown.err and not Path("x").exists()
    lines = [json.loads(line) for line in (tmp_path / "clips/ledger.jsonl").read_text().splitlines()]
    assert {line["clip_id"]: line["status"] for line in lines} == {"[a]-[0-2]": "ok", "[gone]-[0-2]": "removed"}


def test_limit_takes_the_first_clips_of_the_file(server, tmp_path):
    download(server, annotations(tmp_path, "a", "b", "c"), tmp_path / "clips", "--limit", "2")
    assert {name for _, name in server.requests} == {"a", "b"}


def test_cookies_file_is_left_as_it_was(server, tmp_path):
    cookies = tmp_path / "cookies.txt"
    cookies.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tSID\tsecret\n")
    before = cookies.read_text()
    download(server, annotations(tmp_path, "gone"), tmp_path / "clips", "--cookies", str(cookies))
    assert cookies.read_text() == before


@pytest.mark.parametrize("options", [["--jobs", "0"], ["--limit", "0"], ["--sleep", "-1"], ["--sleep", "nan"]])
def test_a_count_that_is_none_is_a_usage_error(server, tmp_path, options):
    with pytest.raises(SystemExit) as ended:
        download(server, annotations(tmp_path, "a"), tmp_path / "clips", *options)
    assert ended.value.code == 2 and not server.requests


@pytest.mark.parametrize("options", [["--url_template", "http://x/"], ["--ffmpeg", "/no/ffmpeg"]])
def test_what_cannot_be_asked_is_status_2(server, tmp_path, capsys, options):
    assert download(server, annotations(tmp_path, "a"), tmp_path / "clips", *options) == 2
    assert capsys.readouterr().err.startswith("descant download: ")


def test_file_that_is_no_musiccaps_is_status_2(server, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert download(server, str(tmp_path / "x.csv"), tmp_path / "clips") == 2
    assert "missing column" in capsys.readouterr().err

"""Damaged recordings become `bad audio`, and what is wrong with the run itself ends it, with its reason."""

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from audio_server import AudioServer, encode, music

from descant.cli import main
from descant.data.annotations import Row, make_clip_id
from descant.data.download import DownloadSettings, Ledger, download_clips
from descant.data.download import fetch as fetching
from descant.data.download.fetch import find_ffmpeg

WINDOW = (3.0, 6.0)
HEADER = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
HEADER += "is_audioset_eval\n"
SAMPLES = music(9, rate=16_000)
SONG = encode(SAMPLES, "flac", 16_000)


@pytest.fixture
def server() -> Iterator[AudioServer]:
    with AudioServer() as server:
        yield server


def run(server: AudioServer, folder: Path, *names: str, **changes: object) -> dict[str, str]:
    """Download one window of each recording; return the status of each by its name, and "stopped" by itself."""
    rows = [Row(make_clip_id(name, *WINDOW), None, "a song", None, "musiccaps", *WINDOW) for name in names]
    fast = {"sleep_s": 0, "retry_wait_s": 0.01, "backoff_s": 0.05, "url_template": server.template, "jobs": 1}
    summary = download_clips(rows, folder, DownloadSettings(**fast | changes), progress=False)
    stopped = {"stopped": summary.stopped} if summary.stopped else {}
    return {key[1:].split("]")[0]: entry.status for key, entry in Ledger(folder).entries.items()} | stopped


def flip(body: bytes, count: int, seed: int) -> bytes:
    """Change bytes amid the window."""
    rng, damaged = random.Random(seed), bytearray(body)
    at = int(len(body) * 0.5)
    for index in range(at, at + count):
        damaged[index] ^= rng.randrange(1, 256)
    return bytes(damaged)


def encode_with_ffmpeg(name: str, folder: Path) -> bytes:
    (folder / "in.wav").write_bytes(encode(SAMPLES, "wav", 16_000))
    subprocess.run([find_ffmpeg(), "-loglevel", "error", "-y", "-i", folder / "in.wav", folder / name], check=True)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("count", [1, 4, 400])
def test_flac_and_ogg_with_changed_bytes_are_bad_audio(server: AudioServer, tmp_path: Path, count: int) -> None:  # W8
    server.files["flac"] = SONG
    server.files["ogg"] = encode_with_ffmpeg("a.ogg", tmp_path)
    server.files |= {f"bad-{name}": flip(body, count, seed=count) for name, body in server.files.items()}
    assert run(server, tmp_path / "clips", *server.files) == {
        "flac": "ok", "ogg": "ok", "bad-flac": "bad audio", "bad-ogg": "bad audio",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.webm"])
def test_formats_without_checksums_are_bad_audio_where_frames_cannot_be_decoded(
    server: AudioServer, tmp_path: Path, name: str
) -> None:  # W8
    server.files["good"] = encode_with_ffmpeg(name, tmp_path)
    server.files["bad"] = flip(server.files["good"], len(server.files["good"]) // 10, seed=1)
    assert run(server, tmp_path / "clips", "good", "bad") == {"good": "ok", "bad": "bad audio"}


def test_one_damaged_recording_leaves_the_others_alone(server: AudioServer, tmp_path: Path) -> None:
    server.files |= {"a": SONG, "bad": flip(SONG, 400, 0), "b": SONG}
    assert run(server, tmp_path, "a", "bad", "b") == {"a": "ok", "bad": "bad audio", "b": "ok"}
    clips = [soundfile.read(path)[0] for path in sorted(tmp_path.glob("*.flac"))]
    assert len(clips) == 2 and (clips[0] == clips[1]).all()


NETSCAPE = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tSID\tsecret\n"
COOKIES = {
    "json": json.dumps([{"domain": ".youtube.com", "name": "SID", "value": "secret"}]).encode(),
    "utf-16": NETSCAPE.encode("utf-16"),
    "latin-1": NETSCAPE.replace("secret", "ä").encode("latin-1"),
    "header only": NETSCAPE.split("\n")[0].encode(),
    "empty": b"",
    "spaces for tabs": NETSCAPE.replace("\t", " ").encode(),
    "HTML": b"<html><body>cookies</body></html>",
    "binary": b"\0\1\2" * 9,
}


@pytest.mark.parametrize("content", COOKIES.values(), ids=COOKIES)
def test_cookies_that_are_none_are_refused_before_the_first_clip(
    server: AudioServer, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:  # F15
    (tmp_path / "c.txt").write_bytes(content)
    said = refused(server, tmp_path, capsys, "--cookies", str(tmp_path / "c.txt"))
    assert f"{tmp_path / 'c.txt'}: is no cookies.txt" in said and "secret" not in said


@pytest.mark.parametrize("name", ["missing.txt", "folder", "/dev/zero"])
def test_cookies_that_are_no_file_are_refused(server: AudioServer, tmp_path: Path, name: str, capsys) -> None:  # F15
    (tmp_path / "folder").mkdir()
    assert "no such file of cookies" in refused(server, tmp_path, capsys, "--cookies", str(tmp_path / name))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_cookies_are_sent(server: AudioServer, tmp_path: Path, encoding: str) -> None:
    server.files["a"] = SONG
    (tmp_path / "c.txt").write_text(NETSCAPE.replace("\n", "\r\n"), encoding=encoding)
    assert download(server, tmp_path, "--cookies", str(tmp_path / "c.txt")) == 0


@pytest.mark.parametrize("program", ["true", "false", "cat"])
def test_a_program_that_is_no_ffmpeg_is_refused(server: AudioServer, tmp_path: Path, program: str, capsys) -> None:
    assert f"{program}: is no ffmpeg" in refused(server, tmp_path, capsys, "--ffmpeg", program)


@pytest.mark.parametrize("address", ["file:///tmp/{ytid}", "{ytid}", "ftp://x/{ytid}", "http://x/"])
def test_an_address_that_is_none_is_refused(server: AudioServer, tmp_path: Path, address: str, capsys) -> None:
    assert "is no address of the web" in refused(server, tmp_path, capsys, "--url_template", address)


def test_braces_in_an_address_are_its_own(server: AudioServer, tmp_path: Path) -> None:
    server.files["a?x=%7By%7D"] = SONG
    assert download(server, tmp_path, "--url_template", server.template + "?x={y}") == 0


def refused(server: AudioServer, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Return the one line of a command that ended with status 2 before it asked for anything."""
    assert download(server, folder, *options) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("descant download: ") and server.requests == []
    return said[0]


def download(server: AudioServer, folder: Path, *options: str) -> int:
    (folder / "caps.csv").write_text(HEADER + "a,3,6,/m/1,['pop'],a song,4,False,False\n")
    given = ["download", str(folder / "caps.csv"), str(folder / "clips"), "--sleep", "0"]
    return main([*given, "--url_template", server.template, *options])


@pytest.mark.parametrize("words", ["No space left on device", "https protocol not found, recompile FFmpeg"])
def test_trouble_of_this_machine_ends_the_run_and_is_written_down_for_no_clip(
    server: AudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    server.files |= {"a": SONG, "b": SONG}
    monkeypatch.setattr(fetching.subprocess, "run", _saying(words, fetching.subprocess.run))
    found = run(server, tmp_path, "a", "b")
    assert set(found) == {"stopped"} and words.split(",")[0] in found["stopped"]
    monkeypatch.undo()
    assert run(server, tmp_path, "a", "b") == {"a": "ok", "b": "ok"}


def _saying(words: str, really: object) -> object:
    def run_ffmpeg(command: list[str], **options: object) -> object:
        if "-version" in command:
            return really(command, **options)
        return subprocess.CompletedProcess(command, 1, b"", words.encode())

    return run_ffmpeg


def test_a_full_disk_ends_the_run(server: AudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise soundfile.LibsndfileError(2)

    server.files |= {"a": SONG, "b": SONG}
    monkeypatch.setattr(soundfile, "write", fail)
    found = run(server, tmp_path, "a", "b")
    assert set(found) == {"stopped"} and ".flac: cannot be written" in found["stopped"]


def test_clips_that_fail_alike_in_a_row_stop_the_run(server: AudioServer, tmp_path: Path, monkeypatch) -> None:
    def fail(self: object, ytid: str, *_: object) -> None:
        raise KeyError(f"no title in {ytid}")

    names = [f"clip{number}" for number in range(6)]
    server.files |= dict.fromkeys(names, SONG)
    monkeypatch.setattr(fetching.Fetcher, "fetch", fail)
    found = run(server, tmp_path, *names)
    assert "3 clips in a row failed alike" in found.pop("stopped")
    assert set(found.values()) == {"failed"} and len(found) == 3
    monkeypatch.undo()
    assert set(run(server, tmp_path, *names).values()) == {"ok"}


def test_one_clip_that_makes_a_library_fail_leaves_the_others_alone(server, tmp_path: Path, monkeypatch) -> None:
    really = fetching.Fetcher.fetch

    def fail(self: fetching.Fetcher, ytid: str, *rest: object) -> None:
        if ytid == "odd":
            raise RecursionError("too deep")
        really(self, ytid, *rest)

    server.files |= {"a": SONG, "odd": SONG, "b": SONG}
    monkeypatch.setattr(fetching.Fetcher, "fetch", fail)
    assert run(server, tmp_path, "a", "odd", "b") == {"a": "ok", "odd": "failed", "b": "ok"}

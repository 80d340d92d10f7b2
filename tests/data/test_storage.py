"""Sound behind addresses: read by ranges, tried again, and named without secrets where it does not come."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_server import AudioServer, encode, music
from hub import LocalHub
from tiny import write_song

from descant.data import storage
from descant.data.audio import AudioError, hear_windows, load_audio, stream_windows
from descant.data.storage import BLOCK_BYTES, connect, file_system, is_local, name_source, open_source


@pytest.fixture(scope="module")
def server() -> Iterator[AudioServer]:
    with AudioServer() as running:
        running.files["long.wav"] = encode(np.tile(music(20, 16_000), 24), "wav", 16_000)  # 8 minutes, 15 MB
        running.files["song.flac"] = encode(music(12, 16_000), "flac", 16_000)
        yield running


@pytest.fixture(autouse=True)
def quick(waits: list[float]) -> None:
    """No pauses between attempts."""


def test_a_remote_sound_is_the_local_one(server: AudioServer, tmp_path: Path) -> None:
    (tmp_path / "song.flac").write_bytes(server.files["song.flac"])
    assert np.array_equal(load_audio(f"{server.url}/song.flac"), load_audio(tmp_path / "song.flac"))
    assert np.array_equal(load_audio(server.files["song.flac"]), load_audio(tmp_path / "song.flac"))


def test_of_a_long_file_only_what_is_heard_is_fetched(server: AudioServer, tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(server.files["long.wav"])
    server.sent.clear()
    far, near = (hear_windows(name, 2) for name in (f"{server.url}/long.wav", tmp_path / "long.wav"))
    for one, other in zip(far.windows, near.windows, strict=True):
        assert one.start_s == other.start_s and np.array_equal(one.samples, other.samples)
    assert 0 < server.sent["long.wav"] < len(server.files["long.wav"]) / 4
    fetched = server.sent["long.wav"]
    assert hear_windows(f"{server.url}/long.wav", 2).duration_s == near.duration_s
    assert server.sent["long.wav"] == fetched  # the server says that it is the same


def test_what_is_read_in_one_piece_comes_in_growing_ones(server: AudioServer) -> None:
    server.files["zeros"] = bytes(40 * BLOCK_BYTES)
    with open_source(f"{server.url}/zeros") as opened:
        before = server.count("zeros")
        while opened.file.read(10_000):
            pass
        assert server.count("zeros") - before <= 7  # 1, 2, 4, 8, 16 and the rest
        assert opened.file.seek(-3, 2) == len(server.files["zeros"]) - 3 and opened.file.read(9) == b"\0\0\0"


def test_a_server_without_ranges_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    with AudioServer(ranges=False) as server:
        server.files["long.wav"] = encode(music(90, 16_000), "wav", 16_000)
        heard = hear_windows(f"{server.url}/long.wav", 2)
        assert [round(one.start_s) for one in heard.windows] == [20, 60] and heard.duration_s == 90
        monkeypatch.setattr(storage, "LARGEST_WHOLE_BYTES", 10**6)
        with pytest.raises(AudioError, match="is larger than 0 GiB: fetch it, and give its path"):
            load_audio(f"{server.url}/long.wav?again")


def test_a_file_that_changes_meanwhile_is_not_mixed(server: AudioServer) -> None:
    server.files["new.wav"] = encode(music(90, 16_000), "wav", 16_000)
    windows = stream_windows(f"{server.url}/new.wav")
    server.files["new.wav"] = encode(music(90, 16_000, seed=1), "wav", 16_000)
    with pytest.raises(AudioError, match="changed while it was read"):
        list(windows)


def expect_stall(fault: int | str, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Wait so long alone for bytes where none come: a busy machine sends them late."""
    if fault == "stall":
        monkeypatch.setattr(storage, "STALL_S", seconds)


@pytest.mark.parametrize("fault", [503, "reset", "cut", "stall"])
def test_a_dropped_connection_is_tried_again(
    server: AudioServer, fault: int | str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_stall(fault, monkeypatch, 1.0)
    server.files["again.wav"] = server.files["song.flac"]
    server.faults["again.wav"] = [None, fault, fault]
    assert len(load_audio(f"{server.url}/again.wav")) == 12 * 16_000
    assert waits == [1.0, 2.0] or (fault == "reset" and len(waits) <= 2)  # which aiohttp tries once more by itself
    storage._keep.cache_clear()


@pytest.mark.parametrize(
    ("fault", "said", "pauses"),
    [
        (404, "it does not exist (404)", []),
        (403, "it may not be read (403): its server asks for a login, or the address has expired", []),
        (418, "it is refused by its server (status 418)", []),
        (500, "(the transfer broke off: status 500): try again later", [1.0, 2.0, 4.0, 8.0]),
        ("cut", "(the transfer broke off: its bytes did not all arrive): try again later", [1.0, 2.0, 4.0, 8.0]),
        ("stall", "(the transfer broke off: nothing came for 0.3 s): try again later", [1.0, 2.0, 4.0, 8.0]),
    ],
)
def test_what_does_not_come_is_named_in_one_sentence(
    server: AudioServer, fault: int | str, said: str, pauses: list[float], waits: list[float],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    expect_stall(fault, monkeypatch, 0.3)
    name = f"{fault}.flac"
    server.files[name] = server.files["song.flac"]
    server.faults[name], server.for_ever = [fault], {name}
    address = f"{server.url}/{name}?X-Amz-Signature=5ecret&token=hunter2".replace("://", "://user:pa55@")
    with caplog.at_level(logging.DEBUG), pytest.raises(AudioError) as raised:
        load_audio(address)
    told = str(raised.value)
    assert told.startswith(f"{server.url}/{name}: cannot be fetched: ") and said in told and waits == pauses
    for secret in ("5ecret", "hunter2", "pa55"):
        assert secret not in told + caplog.text


def test_a_connection_that_breaks_while_a_file_is_decoded_is_the_reason(
    server: AudioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MOST_BLOCKS", 1)
    server.files["far.wav"] = server.files["long.wav"]
    server.faults["far.wav"] = [None] * 9 + ["cut"]
    server.for_ever = {"far.wav"}
    with pytest.raises(AudioError, match="its bytes did not all arrive"):
        load_audio(f"{server.url}/far.wav")


def test_a_server_that_is_not_there_and_empty_files_are_named(server: AudioServer) -> None:
    server.files["empty.wav"] = b""
    with pytest.raises(AudioError, match=r"empty\.wav: is empty"):
        load_audio(f"{server.url}/empty.wav")
    with pytest.raises(AudioError, match=r"http://127\.0\.0\.1:1 could not be reached in 5 attempts"):
        load_audio("http://127.0.0.1:1/a.wav")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://me:pw@host.org:8/a%20b.mp3?X-Goog-Signature=1&Expires=2", "https://host.org:8/a%20b.mp3"),
        ("https://host.org/shard.tar?sig=abc::in/song.mp3", "https://host.org/shard.tar::in/song.mp3"),
        ("s3://key:secret@bucket/50% [live]?.mp3", "s3://bucket/50% [live]?.mp3"),
        ("hf://datasets/me/songs@main/a.mp3", "hf://datasets/me/songs@main/a.mp3"),
        ("music/a.mp3", "music/a.mp3"),
        (Path("a@b.mp3"), "a@b.mp3"),
        (b"RIFF", "bytes"),
    ],
)
def test_names_hold_no_secrets(address: storage.Source, name: str) -> None:
    assert name_source(address) == name


def test_two_sounds_of_one_path_have_two_names() -> None:
    names = {name_source(f"https://host/get?id={number}&token={number}{number}") for number in (1, 2)}
    assert len(names) == 2 and not any("11" in name or "22" in name for name in names)
    assert name_source("https://host/get?id=1&token=x") in names
    assert is_local("a.mp3") and not any(map(is_local, (b"", "s3://b/a.mp3", "a.tar::b.mp3")))


def test_a_driver_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(scheme: str, **_: object) -> None:
        raise ImportError(f"Install a driver of {scheme}")

    monkeypatch.setattr("fsspec.filesystem", refuse)
    for scheme, driver in (("s3", "s3fs"), ("gs", "gcsfs")):
        with pytest.raises(AudioError) as raised:
            load_audio(f"{scheme}://bucket/a.mp3")
        said = f"{scheme}://bucket/a.mp3: needs the package {driver}: pip install descant[{scheme}]"
        assert str(raised.value) == said
    with pytest.raises(AudioError, match="cannot be read: sound is read from paths and http://"):
        file_system("ftp://host/a.mp3")


def test_sound_on_the_hub_is_read_where_it_lies(local_hub: LocalHub, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.wav", 12.0, 16_000)
    local_hub.api().create_repo("tester/songs", repo_type="dataset")
    local_hub.api().upload_file(
        path_or_fileobj=song, path_in_repo="data/song.wav", repo_id="tester/songs", repo_type="dataset"
    )
    address = "hf://datasets/tester/songs/data/song.wav"
    local_hub.fail("short", "resolve.*song.wav")
    assert np.array_equal(load_audio(address), load_audio(song))
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be fetched: it does not exist"):
        load_audio("hf://datasets/tester/songs/data/gone.wav")
    with pytest.raises(AudioError, match=r"tester/none/a\.wav: cannot be fetched: is not on http://127"):
        load_audio("hf://datasets/tester/none/a.wav")
    assert not list((tmp_path / "hub_cache").rglob("*.wav"))


def test_two_versions_of_a_remote_file_are_told_apart(server: AudioServer) -> None:
    server.files["v.bin"] = b"one"
    first = connect(f"{server.url}/v.bin")
    assert connect(f"{server.url}/v.bin") is first and first.read(0, 3) == b"one"
    server.files["v.bin"] = b"two"
    assert connect(f"{server.url}/v.bin").read(0, 3) == b"two"


def test_a_local_file_is_no_pipe_or_folder(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", music(1, 16_000), 16_000)
    with open_source(tmp_path / "a.wav") as opened:
        assert opened.read_state() == opened.read_state()
    with pytest.raises(AudioError, match="is a folder"):
        open_source(tmp_path)

"""Sound on an S3-compatible server on the loopback: listed, read by ranges, and named where it does not come."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from audio_server import AudioServer, encode, music
from tiny import save_tiny_decider

from descant import cli
from descant.data import storage
from descant.data.audio import AudioError, hear_windows, load_audio
from descant.data.sources import list_sounds

pytestmark = pytest.mark.s3


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Iterator[None]:
    """Settings as a user has them in the environment."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "hunter2", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(endpoint: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with a long song and two short ones."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    system = storage.file_system("s3://music")
    system.mkdir("music")
    system.pipe_file("music/in/long.wav", encode(np.tile(music(20, 16_000), 24), "wav", 16_000))
    for number in range(2):
        system.pipe_file(f"music/in/deep/{number} [live].flac", encode(music(12, 16_000, number), "flac", 16_000))
    system.pipe_file("music/in/notes.txt", b"words")
    yield "s3://music"
    server.stop()


def test_a_bucket_is_listed_read_by_ranges_and_described(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = [f"{bucket}/in/deep/0 [live].flac", f"{bucket}/in/deep/1 [live].flac", f"{bucket}/in/long.wav"]
    assert list_sounds([f"{bucket}/in"]) == songs and list_sounds([f"{bucket}/in/**/*.flac"]) == songs[:2]
    (tmp_path / "a.flac").write_bytes(encode(music(12, 16_000, 1), "flac", 16_000))
    assert np.array_equal(load_audio(songs[1]), load_audio(tmp_path / "a.flac"))
    assert [one.start_s for one in hear_windows(songs[2], 2).windows] == [120.0, 360.0]
    held = storage.connect(songs[2]).blocks
    assert len(held) * storage.BLOCK_BYTES < 4_000_000
    for name, said in ((f"{bucket}/none.wav", "does not exist"), ("s3://elsewhere/a.wav", "cannot be fetched")):
        with pytest.raises(AudioError, match=said):
            load_audio(name)
    with pytest.raises(ValueError, match=r"s3://elsewhere: "):
        list_sounds(["s3://elsewhere"])
    model, output = str(save_tiny_decider(tmp_path / "model")), tmp_path / "d.jsonl"
    command = ["describe", f"{bucket}/in/deep", f"{bucket}/none.wav", "--model", model, "--output", str(output)]
    assert cli.main(command) == 1
    assert [json.loads(line)["audio"] for line in output.read_text().splitlines()] == songs[:2]
    shown = capsys.readouterr()
    assert "s3://music/none.wav: cannot be fetched: it does not exist" in shown.err
    assert "hunter2" not in shown.err + shown.out + output.read_text()
    assert "2 were before" in run_again(command, capsys)


def run_again(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(command) == 1
    return capsys.readouterr().out


@pytest.mark.parametrize(("fault", "said"), [("cut", "could not be reached in 5"), ("stall", "nothing came for 1 s")])
def test_a_bucket_whose_server_breaks_off_is_named(
    endpoint: None, fault: str, said: str, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    if fault == "stall":
        monkeypatch.setattr(storage, "STALL_S", 1.0)
    with AudioServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.headers |= dict.fromkeys((200, 206), {"Last-Modified": "Fri, 27 Nov 2026 10:00:00 GMT"})
        server.files["music/a.wav"] = encode(music(12, 16_000), "wav", 16_000)
        server.faults["music/a.wav"], server.for_ever = [None, fault], {"music/a.wav"}
        with pytest.raises(AudioError, match=rf"s3://music/a\.wav: cannot be fetched: .*{said}"):
            load_audio("s3://music/a.wav")
        assert waits == [1.0, 2.0, 4.0, 8.0]

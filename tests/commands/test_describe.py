"""`descant describe`, as it is typed: a few lines or one JSON a track, folders, the schema, wrong use."""

import json
import tarfile
from pathlib import Path

import pytest
from audio_server import AudioServer
from tiny import save_tiny_decider, write_song

from descant import cli
from descant.answering import description


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_decider(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def without_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "measure", lambda path: None)


def test_a_folder_is_described_and_bad_files_are_named(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for name in ("one.wav", "two.flac"):
        write_song(music / name, 10.0)
    (music / "bad.mp3").write_text("no music")
    assert cli.main(["describe", str(music), "--model", folder, "--json"]) == 1
    shown = capsys.readouterr()
    records = [json.loads(line) for line in shown.out.splitlines()]
    assert [Path(one["audio"]).name for one in records] == ["one.wav", "two.flac"] and "bad.mp3" in shown.err
    assert cli.main(["describe", str(music / "one.wav"), "--model", folder]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{music / 'one.wav'}  (0:10)"


def test_the_schema_is_printed_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["describe", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == description.read_schema()


def test_files_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main(["describe", "--model", "x"]))
    assert ended.value.code == 2 and "give sound files or folders" in capsys.readouterr().err


def test_a_folder_is_described_into_files(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music, output = tmp_path / "music", tmp_path / "out" / "d.jsonl"
    music.mkdir()
    write_song(music / "one.wav", 10.0)
    (music / "bad.mp3").write_text("no music")
    command = ["describe", str(music), "--model", folder, "--output", str(output), "--states"]
    assert cli.main([*command, "--sidecars", "caption", "--json"]) == 1
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["songs"], outcome["described"], outcome["failed"]) == (2, 1, 1) and outcome["songs_a_minute"] > 0
    record = json.loads(output.read_text())
    pytest.importorskip("jsonschema").validate(record, description.read_schema())
    assert len(record["states"]) > 1 and (music / "one.caption.txt").read_text().strip() == record["text"]
    (music / "bad.mp3").unlink()
    assert cli.main(command) == 0 and "1 song, 0 described (1 were before)" in capsys.readouterr().out
    assert cli.main([*command[:-1]]) == 2 and "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [(["--output", "d.txt"], "ends in .jsonl"), (["--sidecars", "midi"], "neither caption nor json"),
     (["--sidecars", "json"], "needs --output"), (["--style", "tags"], "--style needs --output"),
     (["--overwrite"], "--overwrite needs --output"), (["--ray_address", "h:1"], "does nothing without --engine ray"),
     (["--output", "o.jsonl", "--overwrite"], "--overwrite does nothing without --sidecars"),
     (["--output", "o.jsonl", "--always"], "--output prints no descriptions")],
)  # fmt: skip
def test_wrong_options_of_folders_are_refused(
    folder: str, option: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(cli.main(["describe", "song.wav", "--model", folder, *option]))
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_sound_in_shards_and_behind_addresses_is_described_once(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], waits: list[float]
) -> None:
    output, songs = tmp_path / "d.csv", []
    with tarfile.open(tmp_path / "songs.tar", "w") as tar:
        for number in range(2):
            tar.add(write_song(tmp_path / f"{number}.wav", 10.0, 16_000), f"{number}.wav")
    with AudioServer() as server:
        server.files |= {name: (tmp_path / name).read_bytes() for name in ("songs.tar", "0.wav")}
        songs = [f"{server.url}/songs.tar?token=hunter2", f"{server.url}/0.wav?id=1&sig=hunter2"]
        missing = f"{server.url}/gone.wav?sig=hunter2"
        command = ["describe", "--model", folder, "--output", str(output)]
        assert cli.main([*command, songs[0]]) == 0 and "2 songs, 2 described" in capsys.readouterr().out
        signed_anew = [name.replace("hunter2", "another") for name in songs]
        again = [*command, *signed_anew, missing, str(tmp_path / "[12].wav")]
        assert cli.main(again) == 1
        assert "5 songs, 2 described (2 were before), 1 skipped" in capsys.readouterr().out
        names = [json.loads(line)["audio"] for line in output.with_suffix(".jsonl").read_text().splitlines()]
        assert names[:2] == [f"{server.url}/songs.tar::{number}.wav" for number in range(2)]
        assert names[2].startswith(f"{server.url}/0.wav?") and names[3] == str(tmp_path / "1.wav")
        failed, gone = json.loads(output.with_suffix(".failed.jsonl").read_text()), f"{server.url}/gone.wav"
        assert failed == {"audio": gone, "error": f"{gone}: cannot be fetched: it does not exist (404)"}
        assert cli.main([*command, songs[1], "--sidecars", "json"]) == 2
        assert "has no folder on this machine" in capsys.readouterr().err
    written = "".join(path.read_text() for path in tmp_path.glob("d.*"))
    assert "hunter2" not in written and "another" not in written

"""Tags of songs: every format keeps its sound bit for bit, nothing is lost, and what was written is taken back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from made_up import choice, describe

from descant import cli
from descant.collections import tagging
from descant.collections.tag_files import TagFile
from descant.collections.tagging import (
    LEDGER,
    TagSettings,
    merge,
    read_genre_map,
    tag_folder,
    undo_folder,
    wanted_tags,
)

av = pytest.importorskip("av")
mutagen = pytest.importorskip("mutagen")

FORMATS = ("song.mp3", "song.flac", "song.ogg", "song.opus", "song.m4a", "song.wav", "song.aiff")
ALL = ("genre", "mood", "bpm", "key", "comment")


def write_sound(path: Path) -> None:
    """Encode a quarter of a second of noise in the format of the path's name."""
    noise = np.random.default_rng(0).normal(0, 3000, 12_000).astype(np.int16)
    if path.suffix != ".m4a":
        kinds = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS")}
        container, codec = kinds.get(path.suffix, (path.suffix[1:].upper(), None))
        soundfile.write(path, noise, 48_000, format=container, subtype=codec)
        return
    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray((noise / 32_768).astype(np.float32)[None], format="fltp", layout="mono")
        frame.rate = 48_000
        output.mux([*stream.encode(frame), *stream.encode(None)])


def decode(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0))


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    for name in FORMATS:
        write_sound(folder / name)
    return folder


@pytest.fixture
def music(sounds: Path, tmp_path: Path) -> Path:
    """A folder with a song of each format."""
    (tmp_path / "music").mkdir()
    for name in FORMATS:
        (tmp_path / "music" / name).write_bytes((sounds / name).read_bytes())
    return tmp_path / "music"


def read(path: Path) -> dict[str, list[str]]:
    return {field: values for field, values in TagFile(path).read().items() if values}


def tag(folder: Path, *names: str, **settings: Any) -> list[tagging.Change]:
    descriptions = [describe(name, **settings.pop("description", {})) for name in names]
    return list(tag_folder(folder, descriptions, TagSettings(**settings)))


@pytest.mark.parametrize("name", FORMATS)
def test_the_sound_stays_bit_for_bit_and_tags_come_back(name: str, music: Path) -> None:
    song = music / name
    sound, content = decode(song), song.read_bytes()
    assert len(sound) > 20_000
    file = TagFile(song)
    file.write({"genre": ["Own"], "comment": ["mine"]})
    file.save(song)
    had = read(song)
    assert had == {"genre": ["Own"], "comment": ["mine"]}
    (change,) = tag(music, name, fields=ALL, mode="append")
    assert change.error is None and decode(song) == sound and song.read_bytes() != content
    assert read(song) == {
        "genre": ["Own", "jazz"], "mood": ["calm"], "bpm": ["92"], "key": ["C#m"],
        "comment": ["mine [MOOD: calm; TEMPO: slow; VOICE: no singing; INSTRUMENTS: piano, bass]"],
    }  # fmt: skip
    assert tag(music, name, fields=ALL, mode="append") == []  # twice is once
    assert tag(music, name, fields=ALL, mode="overwrite")[0].after["genre"] == ["jazz"]
    assert [one.error for one in undo_folder(music)] == [None]
    assert read(song) == had and decode(song) == sound and not (music / LEDGER).exists()
    assert sorted(path.name for path in music.iterdir()) == sorted(FORMATS)


@pytest.mark.parametrize("name", ["song.mp3", "song.wav", "song.aiff"])
def test_where_nothing_was_tagged_no_tags_remain(name: str, music: Path) -> None:
    assert mutagen.File(music / name).tags is None or name == "song.mp3"
    bare = TagFile(music / name)
    bare.file.delete(music / name)
    tag(music, name)
    assert read(music / name)["genre"] == ["jazz"]
    list(undo_folder(music))
    assert mutagen.File(music / name).tags is None


@pytest.mark.parametrize(
    ("field", "mode", "before", "after"),
    [
        ("genre", "fill", ["Rock"], ["Rock"]), ("genre", "fill", [" "], ["jazz"]), ("genre", "fill", [], ["jazz"]),
        ("genre", "append", ["JAZZ"], ["JAZZ"]), ("genre", "append", ["Rock"], ["Rock", "jazz"]),
        ("genre", "overwrite", ["Rock"], ["jazz"]), ("bpm", "append", ["120"], ["120"]),
        ("comment", "append", ["mine [MOOD: sad; TEMPO: fast]"], ["mine jazz"]),
        ("comment", "append", ["a [note]"], ["a [note] jazz"]),
    ],
)  # fmt: skip
def test_modes(field: str, mode: str, before: list[str], after: list[str]) -> None:
    assert merge(field, before, ["jazz"], mode) == after


def test_only_what_is_sure_enough_is_written_by_ones_own_names(tmp_path: Path) -> None:
    from descant.collections.facts import sure_facts

    two = describe("a.mp3")
    two["decisions"]["genre"] = choice({"rock": 0.35, "jazz": 0.45, "classical": 0.2}, sure=False)
    (tmp_path / "map.yaml").write_text("jazz: [Jazz, Bar Music]\nrock: Rock\nclassical:\n")
    settings = TagSettings(genres=read_genre_map(tmp_path / "map.yaml"))
    assert "genre" not in wanted_tags(sure_facts(two), settings)
    assert wanted_tags(sure_facts(two, 0.3), settings)["genre"] == ["Jazz", "Bar Music", "Rock"]
    assert wanted_tags(sure_facts(two, 0.1), settings)["genre"] == ["Jazz", "Bar Music", "Rock"]
    for text in ("[jazz]", "jazz: 3", "a: [", "jazz: ['']"):
        (tmp_path / "map.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"map\.yaml"):
            read_genre_map(tmp_path / "map.yaml")


def test_pretending_changes_nothing(music: Path) -> None:
    before = {path.name: path.read_bytes() for path in music.iterdir()}
    assert len(tag(music, *FORMATS, pretend=True)) == len(FORMATS)
    assert {path.name: path.read_bytes() for path in music.iterdir()} == before


def test_an_interrupted_write_loses_nothing(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    song = music / "song.flac"
    before = song.read_bytes()

    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    for name in ("save", "write"):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(TagFile, name, die)
            tag(music, "song.flac")
        assert song.read_bytes() == before
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", die)
        tag(music, "song.flac")
    assert song.read_bytes() == before and len(list(music.iterdir())) == len(FORMATS) + 1  # and the ledger
    assert [(one.after, one.error) for one in undo_folder(music)] == [({}, None)]
    assert song.read_bytes() == before


def test_what_somebody_changed_since_stays(music: Path) -> None:
    tag(music, "song.mp3")
    file = TagFile(music / "song.mp3")
    file.write({"genre": ["Dub"]})
    file.save(music / "song.mp3")
    (change,) = undo_folder(music)
    assert change.error == "genre was changed since, and stays" and read(music / "song.mp3") == {"genre": ["Dub"]}


def test_bad_files_are_named_and_those_outside_passed_over(music: Path, tmp_path: Path) -> None:
    (music / "bad.mp3").write_text("no sound")
    (music / "odd.flac").write_text("no sound")
    outside = tmp_path / "outside.flac"
    outside.write_bytes((music / "song.flac").read_bytes())
    changes = tag(music, "bad.mp3", "odd.flac", "gone.mp3", str(outside), "song.flac")
    assert [Path(one.audio).name for one in changes] == ["bad.mp3", "odd.flac", "gone.mp3", "song.flac"]
    assert [bool(one.error) for one in changes] == [True, True, True, False] and read(outside) == {}


def test_the_songs_of_the_folder_are_meant_wherever_the_command_is_run(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "song.flac").write_bytes((music / "song.flac").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert [change.audio for change in tag(music, "song.flac")] == [str(music / "song.flac")]
    assert read(tmp_path / "song.flac") == {}


def test_a_ledger_from_elsewhere_changes_nothing_outside_its_folder(music: Path, tmp_path: Path) -> None:
    tag(music, "song.flac")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / LEDGER).write_text((music / LEDGER).read_text().replace("song.flac", "../music/song.flac"))
    (change,) = undo_folder(tmp_path / "other")
    assert change.error and "lies outside of" in change.error and read(music / "song.flac")["genre"] == ["jazz"]


def test_a_linked_song_is_changed_where_it_lies(music: Path) -> None:
    (music / "link.flac").symlink_to("song.flac")
    tag(music, "link.flac")
    assert (music / "link.flac").is_symlink() and read(music / "song.flac")["genre"] == ["jazz"]
    list(undo_folder(music))
    assert (music / "link.flac").is_symlink() and read(music / "song.flac") == {}


def test_the_command_tags_and_takes_back(music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "d.jsonl"
    table.write_text("".join(json.dumps(describe(str(music / name))) + "\n" for name in list(FORMATS)[1:]))
    command = ["tag", str(music), "--from", str(table), "--fields", "genre,comment"]
    assert cli.main([*command, "--json", "--pretend"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[0])["after"]["genre"] == ["jazz"] and "song.mp3: has no" in shown.err
    assert cli.main(command) == 0 and "6 files tagged, 0 skipped" in capsys.readouterr().out
    assert cli.main(["tag", str(music), "--undo"]) == 0 and "6 files restored" in capsys.readouterr().out
    assert cli.main(["tag", str(music), "--undo"]) == 2 and "nothing was tagged here" in capsys.readouterr().err
    assert cli.main(["tag", str(music)]) == 2 and "either --from" in capsys.readouterr().err
    assert cli.main(["tag", str(music), "--undo", "--fields", "genre"]) == 2
    assert "--fields does nothing with --undo" in capsys.readouterr().err
    table.write_text(table.read_text() + "no JSON\n")
    assert cli.main(command) == 1 and "d.jsonl:7: broken JSON" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, "--fields", "artist"])


def test_a_song_in_place_of_its_folder_is_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").touch()
    with pytest.raises(ValueError, match="is a file: give the folder of songs"):
        list(tag_folder(tmp_path / "song.mp3", [describe("song.mp3")], TagSettings()))

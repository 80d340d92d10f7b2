"""What users name as sound: folders, patterns, lists, addresses, shards and data sets; each sound is read in place."""

import errno
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_server import AudioServer, encode, music
from hub import LocalHub
from sounds import write

from descant.data import sources, storage
from descant.data.audio import AudioError, hear_windows, load_audio
from descant.data.sources import list_sound_files, list_sounds, names_sound


def test_a_folder_is_listed_by_suffix_and_linked_folders_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, elsewhere = tmp_path / "songs", tmp_path / "elsewhere"
    sounds = ["a.WAV", "b.aiff", "b.aif", "c/d.oga", "c/e.au", "c/f.caf", "g.w64", "h.mp2", "i.mka", "j.mp4", "k.aifc"]
    others = ["notes.txt", "c/cover.jpg", "x.npy", "noname"]
    for name in [*sounds, *others, ".hidden.wav", ".trash/a.wav", "c/._a.wav"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    elsewhere.mkdir()
    (elsewhere / "z.flac").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "again").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    (folder / "file.wav").symlink_to(elsewhere / "z.flac")
    (folder / "broken.wav").symlink_to(tmp_path / "absent.wav")
    os.mkfifo(folder / "pipe.wav")
    listed = list_sound_files(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in listed.files)
    broken = ["broken.wav", "file.wav", "pipe.wav"]  # which say so when they are opened
    assert [name for name in names if not name.endswith("z.flac")] == sorted([*sounds, *broken])
    assert [name for name in names if name.endswith("z.flac")] in (["again/z.flac"], ["linked/z.flac"])
    left_out = {path.relative_to(folder).as_posix() for path in listed.left_out}
    assert left_out == set(others)
    listed.warn(used=(".txt",))
    assert f"{folder}: left out 3 files that are no sound by their name: c/cover.jpg, " in caplog.text
    assert "notes.txt" not in caplog.text
    assert folder / "x.npy" in list_sound_files(folder, also=(".npy",)).files


def test_a_folder_that_cannot_be_read_is_a_problem_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.wav")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str | Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listed = list_sounds([str(tmp_path)])
    assert listed == [str(tmp_path / "a.wav"), str(tmp_path / "closed")]
    with pytest.raises(AudioError, match="cannot be opened .Permission denied"):
        load_audio(listed[1])


def test_a_folder_of_sound_alone_leaves_nothing_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.wav")
    list_sound_files(tmp_path).warn()
    assert not caplog.text and list_sound_files(str(tmp_path)).files == [tmp_path / "a.wav"]


def test_sounds_are_those_of_folders_files_lists_and_patterns(tmp_path: Path) -> None:
    for name in ("music/b.mp3", "music/a.flac", "music/deep/c.ogg", "music/notes.pdf", "music/x[1].wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.m3u").write_bytes("#EXTM3U\r\nmusic/b.mp3\n\nelse\u2028where.ogg\nhttps://host/d.mp3".encode())
    music = [str(tmp_path / "music" / name) for name in ("a.flac", "b.mp3", "deep/c.ogg", "x[1].wav")]
    assert list_sounds([str(tmp_path / "music")]) == music
    assert list_sounds([str(tmp_path / "list.m3u")]) == [
        music[1], str(tmp_path / "else\u2028where.ogg"), "https://host/d.mp3"
    ]
    assert list_sounds([str(tmp_path / "music" / "*")]) == [music[0], music[1], music[3]]
    assert list_sounds([str(tmp_path / "**" / "*.ogg"), music[3]]) == [music[2], music[3]]
    assert list_sounds(["gone.mp3", "gone", "s{08..10}.mp3"]) == ["gone.mp3", "gone", "s08.mp3", "s09.mp3", "s10.mp3"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing.txt", "no*.mp3", "{0..9999999}.mp3"):
        with pytest.raises(ValueError, match="holds no sound files|cannot be read as a list|more than 1,000,000"):
            list_sounds([str(tmp_path / name)])
    with pytest.raises(ValueError, match="a path is empty"):
        list_sounds([music[0], ""])  # not this folder


def test_a_folder_without_sound_fails_alone_among_others(tmp_path: Path) -> None:
    (tmp_path / "covers").mkdir()
    folder, song = str(tmp_path / "covers"), str(tmp_path / "a.wav")
    assert list_sounds([folder, song]) == [folder, song]
    with pytest.raises(AudioError, match="is a folder, and no sound file"):
        sources.open_sound(folder)


def test_a_name_that_can_be_no_path_fails_alone_when_it_is_opened(tmp_path: Path) -> None:
    names = [str(tmp_path / ("a" * 300 + ".mp3")), str(tmp_path / "b.wav")]
    (tmp_path / "songs.txt").write_text("\n".join(names))
    assert list_sounds([str(tmp_path / "songs.txt")]) == list_sounds(names) == names
    with pytest.raises(AudioError, match="cannot be opened"):
        load_audio(names[0])


def test_what_can_only_be_sound_is_no_model() -> None:
    sounds = ("a.mp3", "https://h/a", "x/*.ogg", "s{0..3}.tar", "a.tar::b", "a.parquet::3", "a.m3u")
    assert all(map(names_sound, sounds))
    assert not any(map(names_sound, ("outputs/model", "me/model", "box")))


# Shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar file and a Parquet file of three songs, and the songs."""
    folder = tmp_path_factory.mktemp("shards")
    songs = {f"{number}.{kind}": encode(music(12, 16_000, number), kind, 16_000) for number, kind in
             enumerate(("flac", "wav", "ogg"))}  # fmt: skip
    with tarfile.open(folder / "songs.tar", "w") as tar:
        for name, content in songs.items():
            for member, body in ((f"in/{name}", content), (f"in/{name}.json", b"{}"), (f"in/{name}.txt", b"words")):
                about = tarfile.TarInfo(member)
                about.size = len(body)
                tar.addfile(about, io.BytesIO(body))
    write_parquet(folder / "songs.parquet", list(songs.values()))
    for name, content in songs.items():
        (folder / name).write_bytes(content)
    return folder


def write_parquet(path: Path | io.BytesIO, contents: list[bytes | None], row_group_size: int = 2) -> None:
    import pyarrow
    from pyarrow import parquet

    cells = [{"bytes": content, "path": f"{number}.wav"} for number, content in enumerate(contents)]
    pictures = [{"bytes": b"png", "path": "a.png"} for _ in contents]
    kinds = {"cover": {"_type": "Image"}, "music": {"_type": "Audio"}}
    about = {"huggingface": json.dumps({"info": {"features": kinds}})}
    table = pyarrow.table({"cover": pictures, "music": cells}).replace_schema_metadata(about)
    parquet.write_table(table, path, row_group_size=row_group_size)


@pytest.fixture
def server(folder: Path, waits: list[float]) -> Iterator[AudioServer]:
    with AudioServer() as running:
        running.files |= {path.name: path.read_bytes() for path in folder.iterdir()}
        yield running


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize("far", [False, True])
def test_sounds_in_shards_are_read_in_place(folder: Path, server: AudioServer, kind: str, far: bool) -> None:
    shard = f"{server.url}/songs.{kind}" if far else str(folder / f"songs.{kind}")
    found = list_sounds([shard])
    names = ["in/0.flac", "in/1.wav", "in/2.ogg"] if kind == "tar" else ["0", "1", "2"]
    assert found == [f"{shard}::{name}" for name in names]
    for sound, path in zip(found, ("0.flac", "1.wav", "2.ogg"), strict=True):
        assert np.array_equal(load_audio(sound), load_audio(folder / path))
    assert np.array_equal(load_audio(found[0]), load_audio(folder / "0.flac"))  # back again
    (heard,), whole = hear_windows(found[1], 1).windows, load_audio(folder / "1.wav")
    assert np.array_equal(heard.samples, whole[-160_000:])


def test_a_folder_without_sound_files_is_that_of_its_shards(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes((folder / "songs.parquet").read_bytes())
    (tmp_path / "b.tar").write_bytes((folder / "songs.tar").read_bytes())
    write_parquet(tmp_path / "table.parquet", [b""])
    pyarrow = pytest.importorskip("pyarrow.parquet")
    pyarrow.write_table(pyarrow.read_table(tmp_path / "table.parquet").select(["cover"]), tmp_path / "table.parquet")
    assert [Path(name).name for name in list_sounds([str(tmp_path)])] == [
        "a.parquet::0", "a.parquet::1", "a.parquet::2", "0.flac", "1.wav", "2.ogg"
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"table\.parquet: has no audio column"):
        list_sounds([str(tmp_path / "table.parquet")])
    (tmp_path / "own.wav").touch()
    assert list_sounds([str(tmp_path)]) == [str(tmp_path / "own.wav")]


def test_folders_of_datasets_are_read(folder: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"audio": {"bytes": (folder / name).read_bytes(), "path": name}} for name in ("0.flac", "1.wav")]
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "table.parquet")
    for source in ("saved", "table.parquet"):
        found = list_sounds([str(tmp_path / source)])
        assert len(found) == 2 and np.array_equal(load_audio(found[1]), load_audio(folder / "1.wav"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("songs.tar::none.mp3", "is not in the tar file"),
        ("songs.parquet::3", "is no row: .*songs.parquet has rows 0 to 2"),
        ("songs.parquet::x", "is no row"),
        ("songs.tar", "is a shard of sounds: name one of them, such as .*songs.tar::in/0.flac"),
        ("songs.parquet", "such as .*songs.parquet::0"),
        ("none.tar::a.mp3", "none.tar::a.mp3: does not exist"),
        ("none.parquet", "does not exist"),
        ("text.tar", "is no plain tar file that can be read"),
        ("text.parquet::0", "cannot be read"),
        ("empty.parquet::1", "holds no bytes of a sound file"),
    ],
)
def test_what_is_not_in_a_shard_is_named(folder: Path, name: str, said: str) -> None:
    for path in ("text.tar", "text.parquet"):
        (folder / path).write_text("no shard" * 200)
    write_parquet(folder / "empty.parquet", [b"x", None])
    with pytest.raises(AudioError, match=said):
        load_audio(str(folder / name))


def test_a_shard_that_is_cut_short_gives_what_it_has_and_is_named(folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes((folder / "songs.tar").read_bytes()[: (folder / "0.flac").stat().st_size + 30_000])
    *whole, last = list_sounds([str(cut)])
    assert whole == [f"{cut}::in/0.flac"] and last == str(cut) and len(load_audio(whole[0])) == 12 * 16_000
    with pytest.raises(AudioError, match="is cut short or damaged after 3 files"):
        load_audio(last)


def test_a_shard_on_a_server_that_fails_is_one_problem_among_sounds(server: AudioServer, folder: Path) -> None:
    shards_there = f"{server.url}/" + "songs{0..1}.tar"
    server.files["songs1.tar"] = server.files["songs.tar"]
    found = list_sounds([shards_there, str(folder / "0.flac")])
    assert len(found) == 5 and found[0] == f"{server.url}/songs0.tar"
    with pytest.raises(AudioError, match=r"songs0\.tar: cannot be fetched: it does not exist \(404\)"):
        load_audio(found[0])
    sources._index_tar.cache_clear()
    server.faults["songs1.tar"], server.for_ever = ["cut"], {"songs1.tar"}
    storage._keep.cache_clear()
    with pytest.raises(AudioError, match=r"songs1\.tar::in/0\.flac: cannot be fetched: .*did not all arrive"):
        load_audio(found[1])


def test_of_a_row_group_only_what_lies_before_a_row_is_fetched(server: AudioServer) -> None:
    songs = [encode(music(60, 16_000, number), "wav", 16_000) for number in range(6)]
    buffer = io.BytesIO()
    write_parquet(buffer, songs, row_group_size=3)
    server.files["big.parquet"] = buffer.getvalue()
    found = list_sounds([f"{server.url}/big.parquet"])
    server.sent.clear()
    load_audio(found[3])
    assert 0 < server.sent["big.parquet"] < len(server.files["big.parquet"]) * 0.7


# Data sets


def test_a_data_set_on_the_hub_is_its_files(
    local_hub: LocalHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = local_hub.api()
    api.create_repo("tester/songs", repo_type="dataset")
    there = {"songs.parquet": "data/train.parquet", "songs.tar": "more/songs.tar", "1.wav": "wav/1.wav"}
    for path, name in there.items():
        api.upload_file(
            path_or_fileobj=folder / path, path_in_repo=name, repo_id="tester/songs", repo_type="dataset"
        )
    found = list_sounds(["hf://datasets/tester/songs"])
    assert [name.removeprefix("hf://datasets/tester/songs") for name in found] == [
        *(f"/data/train.parquet::{row}" for row in range(3)),
        *(f"/more/songs.tar::in/{name}" for name in ("0.flac", "1.wav", "2.ogg")), "/wav/1.wav",
    ]  # fmt: skip
    assert list_sounds(["hf://datasets/tester/songs/wav/*.wav"]) == ["hf://datasets/tester/songs/wav/1.wav"]
    for sound in (found[1], found[4], found[6]):
        assert np.array_equal(load_audio(sound), load_audio(folder / "1.wav"))
    monkeypatch.setattr("descant.data.sources.list_dataset_files", lambda name: found[6:] + ["hf://x/README.md"])
    assert list_sounds(["tester/songs"]) == found[6:]
    with pytest.raises(ValueError, match=r"tester/none/\*\.wav.* is not on http"):
        list_sounds(["hf://datasets/tester/none/*.wav"])

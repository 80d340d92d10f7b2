"""Sound files in folders named by genre and subgenre become records."""

from descant.data.tracks.track_folder import list_audio, read_track_folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_folders_name_genre_and_subgenre(tmp_path):
    touch(tmp_path, "pop/a.mp3", "rock/punk/b.FLAC", "rock/punk/notes.txt", "top.mp3", "a/b/c/deep.wav")
    records, problems = read_track_folder(tmp_path)
    assert [(r.track_id, r.genre, r.subgenres, r.artist) for r in records] == [
        ("a", "pop", (), None), ("b", "rock", ("punk",), None),
    ]  # fmt: skip
    assert [problem.split(":")[0] for problem in problems] == ["a/b/c/deep.wav", "top.mp3"]


def test_hidden_files_and_folders_are_not_listed(tmp_path):
    touch(tmp_path, ".trash/a.mp3", "pop/._a.mp3", "pop/b.mp3")
    assert [path.name for path in list_audio(tmp_path)] == ["b.mp3"]

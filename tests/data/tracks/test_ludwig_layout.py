"""The Ludwig Music Dataset's layout is read, wrapped as a DynamoDB export or bare."""

import json

import pytest

from descant.data.tracks.ludwig_layout import is_ludwig, read_ludwig


def write_dataset(folder, tracks, files=()):
    (folder / "labels.json").write_text(json.dumps(tracks))
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


WRAPPED = {
    "genre": {"S": "latin"}, "artist": {"S": "Los Uno"}, "name": {"S": "Uno"}, "popularity": {"N": "12"},
    "subgenres": {"L": [{"S": "latin---flamenco"}, {"S": "funk / soul---funk "}]},
    "otherSubgenres": {"L": [{"S": "x"}]},
}  # fmt: skip
BARE = {"genre": "reggae", "artist": "", "subgenres": ["reggae"]}


@pytest.mark.parametrize("mp3", ["mp3", "mp3/mp3"])
def test_wrapped_and_bare_entries_find_their_files(tmp_path, mp3):
    files = [f"{mp3}/latin/one.mp3", f"{mp3}/latin/.one.mp3", "mfccs/latin/one.npy"]
    write_dataset(tmp_path, {"tracks": {"one": WRAPPED, "two": BARE}}, files)
    (one, two), problems = read_ludwig(tmp_path)
    assert is_ludwig(tmp_path) and problems == []
    assert (one.track_id, one.genre, one.artist, one.audio) == ("one", "latin", "Los Uno", tmp_path / files[0])
    assert one.subgenres == ("latin---flamenco", "funk / soul---funk")
    assert (two.genre, two.subgenres, two.artist, two.audio) == ("reggae", (), None, None)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [("rock", "is str, not an object"), ({"genre": {"NULL": True}}, "genre None is no name"),
     ({"genre": "rock", "subgenres": "punk"}, "subgenres 'punk' are no list")],
)  # fmt: skip
def test_bad_entries_and_sounds_without_an_entry_are_named(tmp_path, entry, reason):
    write_dataset(tmp_path, {"tracks": {"bad": entry, "good": BARE}}, ["mp3/rock/stray.mp3"])
    records, problems = read_ludwig(tmp_path)
    assert [record.track_id for record in records] == ["good"]
    assert problems[0].startswith("labels.json: bad: ") and reason in problems[0]
    assert problems[1] == "mp3/rock/stray.mp3: has no entry in labels.json; left out"


@pytest.mark.parametrize("text", ["{", "[]", '{"tracks": []}', "{}"])
def test_a_labels_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ValueError, match="labels.json: "):
        read_ludwig(tmp_path)

"""Names of this machine's folders are not published."""

import pytest

from descant.publish.names import is_hub_id, public_name


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("/home/someone/music", "music"), ("../music", "music"), ("./music", "music"), ("runs/a/best/", "best"),
        ("someone/music-v1.5", "someone/music-v1.5"), ("descant/demo", "descant/demo"), ("own", "own"), (3, 3),
    ],
)  # fmt: skip
def test_of_a_path_the_last_name_is_left(name, public):
    assert public_name(name) == public


def test_a_folder_that_is_here_is_no_hub_id(tmp_path, monkeypatch):
    (tmp_path / "data" / "music").mkdir(parents=True)
    assert is_hub_id("data/music")
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("data/music") and public_name("data/music") == "music"

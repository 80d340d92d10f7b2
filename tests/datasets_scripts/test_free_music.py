"""Free music: which licence allows which split, and windows cut from a package's tracks."""

import json
import sys

import numpy as np
import pytest
import soundfile

SCRIPT = "free_music"
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2001-2004, The Team
License: GPL-2+

Files: data/music/*
Copyright: 2009 Ann Composer <ann@example.org>
           2010, Bob Player
License: CC-BY-3.0
 The text of the licence.

Files: ./data/music/dance.ogg
Copyright: Cy Share
License: CC-BY-SA-3.0

Files: data/music/sold.ogg
Copyright: Dee
License: CC-BY-NC-3.0

License: GPL-2+
 On Debian systems, see /usr/share/common-licenses/GPL-2.
"""


@pytest.fixture
def package(tmp_path):
    """An unpacked package with tracks of 25 s, a jingle of 5 s, a sound effect and a broken file."""
    root = tmp_path / "packages" / "made-up-data"
    music = root / "usr/share/games/made-up/data/music"
    music.mkdir(parents=True)
    (root / "usr/share/doc/made-up-data").mkdir(parents=True)
    (root / "usr/share/doc/made-up-data/copyright").write_text(COPYRIGHT)
    tone = np.sin(np.arange(25 * 8000) / 7) * 0.3
    for name in ("march", "dance", "sold"):
        soundfile.write(music / f"{name}.ogg", tone, 8000)
    soundfile.write(music / "jingle.ogg", tone[: 5 * 8000], 8000)
    soundfile.write(music.parent / "bang.ogg", tone, 8000)
    (music / "broken.ogg").write_bytes(b"not a sound")
    return root


def test_windows_and_facts_of_a_package(script, package, tmp_path):
    output = tmp_path / "out"
    clips, problems = script.take_package(package, output)
    lines = [json.loads(line) for line in (output / "facts.jsonl").read_text().splitlines()]
    assert clips == len(lines) == 4 and [problem.split(":")[0] for problem in problems] == ["broken.ogg"]
    by_title = {line["title"]: line for line in lines}
    assert set(by_title) == {"march", "dance"}
    assert by_title["march"]["split"] == "train" and by_title["dance"]["split"] in ("validation", "test")
    assert by_title["march"]["author"] == "Ann Composer <ann@example.org> Bob Player"
    assert by_title["march"]["licence"] == "CC-BY-3.0" and by_title["march"]["package"] == "made-up-data"
    assert by_title["march"]["genre"] is by_title["march"]["drums"] is None and by_title["march"]["kind"] == "real"
    sound, rate = soundfile.read(output / by_title["march"]["file"])
    assert (len(sound), rate) == (160_000, 16_000)
    assert script.take_package(package, output) == (0, [])


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("usr/share/games/made-up/data/music/march.ogg", "CC-BY-3.0"),
        ("usr/share/games/made-up/data/music/dance.ogg", "CC-BY-SA-3.0"),
        ("usr/share/games/made-up/music/dance.ogg", "CC-BY-SA-3.0"),
        ("usr/share/games/made-up/data/bang.ogg", "GPL-2+"),
    ],
)
def test_the_last_pattern_that_fits_a_file_states_its_terms(script, package, path, licence):
    terms = script.read_copyright("made-up-data", package)
    assert script.terms_of(str(package / path), terms).licence == licence


@pytest.mark.parametrize(
    ("licence", "splits"),
    [
        ("CC0-1.0", {"train"}),
        ("CC-BY-4.0", {"train"}),
        ("MIT", {"train"}),
        ("public-domain", {"train"}),
        ("GPL-3 or CC-BY-3.0", {"train"}),
        ("CC-BY-SA-3.0", {"validation", "test"}),
        ("GPL-2+", {"validation", "test"}),
        ("GPL-2+ OR CC-BY-SA", {"validation", "test"}),
        ("CC-BY-NC-3.0", {None}),
        ("CC-BY-ND-3.0", {None}),
        ("", {None}),
    ],
)
def test_a_licence_decides_the_split(script, licence, splits):
    assert {script.split_of(licence, author, "package") for author in "abcdefgh"} == splits


def test_of_one_author_all_tracks_are_in_one_split(script):
    assert len({script.split_of(licence, "Ann", "package") for licence in ("CC-BY-SA-3.0", "GPL-2+")}) == 1


def test_a_package_without_a_copyright_file_gives_nothing(script, package, tmp_path):
    (package / "usr/share/doc/made-up-data/copyright").unlink()
    assert script.take_package(package, tmp_path / "out")[0] == 0


def test_a_package_that_cannot_be_read_is_named_and_the_others_are_taken(
    script, package, tmp_path, monkeypatch, capsys
):
    (package.parent / "broken.deb").write_bytes(b"no package")
    folders = ["--packages", str(package.parent), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["free_music.py", *folders])
    assert script.main() == 1
    said = capsys.readouterr().out
    assert "broken.deb: 0 clips\n  is left out: " in said and "made-up-data: 4 clips" in said

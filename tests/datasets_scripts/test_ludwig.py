"""The Ludwig builder: a labelled collection becomes a dataset without sound and lyrics, its artists apart."""

import json
import os
import subprocess
import sys
from collections import defaultdict

import numpy as np
import pytest
import soundfile
from datasets import load_dataset

from descant.subgenre.reading_tracks import load_tracks


@pytest.fixture
def ludwig(scripts):
    import ludwig

    return ludwig


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """40 tracks of 20 artists in the published layout; tracks 0 and 39 are one sound. No test changes them."""
    folder, labels = tmp_path_factory.mktemp("ludwig") / "archive", {}
    for number in range(40):
        genre, name = (("rock", "punk"), ("funk / soul", "disco"), ("electronic", "disco"))[number // 2 % 3]
        labels[f"id{number}"] = {
            "genre": {"S": genre}, "artist": {"S": f"Artist {number // 2}"}, "name": {"S": "x"},
            "subgenres": {"L": [{"S": f"{genre}---{name} "}]}, "otherSubgenres": {"L": []},
        }  # fmt: skip
        path = folder / "mp3" / genre.replace("/", "") / f"id{number}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number % 39).normal(0, 0.1, 64_000).cumsum()
        soundfile.write(path, 0.3 * noise / np.abs(noise).max(), 16_000)
    (folder / "mp3/rock/id0.txt").write_text("hold on to me tonight and never let me go")
    (folder / "labels.json").write_text(json.dumps({"tracks": labels}))
    return folder


def test_a_dataset_keeps_artists_and_sounds_apart_and_holds_no_lyrics(ludwig, archive, tmp_path, capsys):
    output = tmp_path / "out"
    assert ludwig.main(["--annotations", str(archive), "--output", str(output)]) == 0
    loaded = load_dataset(str(output), "tracks", cache_dir=str(tmp_path / "cache"))
    rows = [row for part in loaded.values() for row in part]
    splits = defaultdict(set)
    for row in rows:
        splits[row["artist"]].add(row["split"])
    assert len(rows) == 40 and all(len(found) == 1 for found in splits.values())
    assert splits["Artist 0"] == splits["Artist 19"]
    assert "lyrics" not in rows[0] and next(row for row in rows if row["id"] == "id0")["language"] == "en"
    assert "40 tracks (3" in capsys.readouterr().out
    notes = [json.loads(line)["text"] for line in (output / "reading_log.jsonl").read_text().splitlines()]
    assert "id0 and id39 are the same sound and stay in one split" in notes
    card = (output / "README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card and str(tmp_path) not in card
    again = load_tracks(output, audio_dir=archive)
    assert len(again.tracks) == 40 and {track.split for track in again.tracks} == {"train", "validation", "test"}
    assert again.tree.subgenres == ("electronic---disco", "funk / soul---disco", "rock---punk")


def test_labels_not_in_the_tree_are_named_and_tell_in_the_exit_status(ludwig, archive, tmp_path, capsys):
    tree = tmp_path / "tree.json"
    tree.write_text('{"rock": [], "funk / soul": ["disco"]}')
    arguments = ["--annotations", str(archive), "--label_tree", str(tree), "--output", str(tmp_path / "out")]
    assert ludwig.main([*arguments, "--skip_audio_check", "--include_lyrics"]) == 1
    told = capsys.readouterr().err
    assert "skipped labels.json: id4: genre 'electronic' is not in the label tree; left out" in told
    assert "id0: subgenre 'rock---punk' is not in the label tree; the track is kept without it" in told
    assert "--output out --skip_audio_check --include_lyrics\n" in (tmp_path / "out/README.md").read_text()
    rows = load_tracks(tmp_path / "out").tracks
    assert [track.track_id for track in rows] == ["id0"] and rows[0].lyrics.startswith("hold on")


def test_lyrics_are_not_published_and_a_source_that_is_not_there_is_refused(ludwig, archive, tmp_path, capsys):
    output = ["--output", str(tmp_path / "out")]
    publish = ["--annotations", str(archive), "--include_lyrics", "--push_to_hub", "me/songs"]
    assert ludwig.main([*publish, *output]) == 2
    assert ludwig.main(["--annotations", str(tmp_path / "none"), *output]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "ludwig.py: lyrics are not published: leave --include_lyrics or --push_to_hub out"
    assert len(told) == 2 and "is neither `demo`, a table" in told[1]


def test_the_script_runs_as_a_program(scripts):
    command = [sys.executable, str(scripts / "ludwig.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert "--label_tree" in done.stdout

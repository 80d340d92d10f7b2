"""Clips are named by tables, folders and the demo, and sound is taken from the first place that has it."""

from pathlib import Path

import numpy as np
import soundfile

from descant.data.annotations import Row
from descant.data.clip_lists import gather_clips, read_clip_list


def row(clip_id: str, audio: str | None = None) -> Row:
    return Row(clip_id, None, "a song", None, "musiccaps", 0, 10, "train", audio)


def sound(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=16_000), 16_000)
    return str(path)


def test_demo_names_every_clip_once_with_its_file():
    rows = read_clip_list("demo").rows
    assert len({row.clip_id for row in rows}) == len(rows) > 100
    assert all(Path(row.audio).is_file() for row in rows)


def test_table_is_told_by_its_columns(tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text('{"audio": "a.wav", "caption": "x"}\n')
    caps = tmp_path / "caps.jsonl"
    caps.write_text('{"ytid": "a", "start_s": 0, "end_s": 9, "caption": "x", "is_audioset_eval": true}\n')
    qa = tmp_path / "qa.json"
    qa.write_text('{"QA": [{"ytid": "a", "question": "x", "answer": "y", "is_audioset_eval": true}]}')
    assert [read_clip_list(path).rows[0].source for path in (own, caps, qa)] == ["own", "musiccaps", "music_instruct"]


def test_place_of_its_own_comes_before_folders_in_their_order(tmp_path):
    sound(tmp_path / "one/b.wav")
    sound(tmp_path / "two/b.wav")
    sound(tmp_path / "two/a.wav")
    own = sound(tmp_path / "own.wav")
    clips = gather_clips([row("a", own), row("b"), row("c")], [tmp_path / "one", tmp_path / "two"])
    assert {name: clip.path for name, clip in clips.items()} == {"a": own, "b": str(tmp_path / "one/b.wav")}

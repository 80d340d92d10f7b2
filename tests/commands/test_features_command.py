"""`descant features` computes what is missing, says what it skipped, and finds damage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny import build_tiny_model

from descant.cli import main
from descant.data.extraction import extract_features
from descant.data.features import FeatureStore
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor


def sound(path: Path, pitch: float = 440) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * np.arange(16_000) / 16_000), 16_000)


def features(tmp_path: Path, *arguments: str) -> int:
    return main(["features", *arguments, "--features", str(tmp_path / "features")])


def open_store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features", LPMusicCapsFeatureExtractor().to_dict())


def test_folder_of_sound_files_and_a_second_run(tmp_path, capsys):
    sound(tmp_path / "songs/a.wav")
    sound(tmp_path / "songs/deep/b.flac", 550)
    assert features(tmp_path, str(tmp_path / "songs")) == 0
    assert capsys.readouterr().out.split()[:2] == ["computed", "2"]
    assert features(tmp_path, str(tmp_path / "songs")) == 0
    assert "there before" in capsys.readouterr().out
    assert sorted(open_store(tmp_path).keys()) == ["a", "b"]


def test_musiccaps_table_with_an_audio_folder_and_a_clip_without_sound(tmp_path, capsys):
    sound(tmp_path / "clips/[abc]-[30-40].wav")
    lines = "".join(f"{ytid},30,40,['pop'],a song,False\n" for ytid in ("abc", "dead"))
    (tmp_path / "caps.csv").write_text("ytid,start_s,end_s,aspect_list,caption,is_audioset_eval\n" + lines)
    assert features(tmp_path, str(tmp_path / "caps.csv"), "--audio_dir", str(tmp_path / "clips")) == 1
    assert ["without", "sound", "1"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert list(open_store(tmp_path).keys()) == ["[abc]-[30-40]"]


def test_own_table_names_unreadable_files_and_bad_records(tmp_path, capsys):
    sound(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text("no sound")
    (tmp_path / "own.csv").write_text("audio,caption\na.wav,one\nb.wav,two\nc.wav,\n")
    assert features(tmp_path, str(tmp_path / "own.csv")) == 1
    shown = capsys.readouterr()
    assert "b.wav" in shown.err and "own.csv:4" in shown.err and "unreadable" in shown.out
    assert list(open_store(tmp_path).keys()) == ["a"]


@pytest.mark.parametrize("first", ['{"audio":"a.wav","quest', "", "[" * 100_000, '{"audio": ' + "1" * 5000 + "x}"])
def test_broken_or_blank_first_line_leaves_the_table_of_its_kind(tmp_path, capsys, first):
    sound(tmp_path / "b.wav")
    (tmp_path / "own.jsonl").write_text(first + '\n{"audio": "b.wav", "question": "q", "answer": "a"}\n')
    assert features(tmp_path, str(tmp_path / "own.jsonl")) == (1 if first else 0)
    assert ("own.jsonl:1: " in capsys.readouterr().err) == bool(first)
    assert list(open_store(tmp_path).keys()) == ["b"]


@pytest.mark.parametrize(
    ("name", "text", "messages"),
    [
        ("own.jsonl", '{"audio":"a.wav","quest\n5\n', ["jsonl:1: broken", "jsonl:2: a record", "none of its 2"]),
        ("own.csv", "audio,caption\na.wav,\n", ["own.csv:2: a.wav: caption is empty", "none of its 1 records"]),
        ("own.csv", "audio,caption\n", ["own.csv: holds no records"]),
        ("own.jsonl", "", ["own.jsonl: holds no records"]),
        ("own.csv", '"audio"x,caption\n', ["own.csv:1: broken CSV in the header"]),
    ],
)
def test_table_without_a_good_row_is_refused_after_its_problems_are_named(tmp_path, capsys, name, text, messages):
    (tmp_path / name).write_text(text)
    assert features(tmp_path, str(tmp_path / name)) == 2
    shown = capsys.readouterr().err
    assert all(message in shown for message in messages) and "--audio_dir" not in shown


def test_clip_without_sound_is_named(tmp_path, capsys):
    sound(tmp_path / "clips/[abc]-[30-40].wav")
    lines = "".join(f"{ytid},30,40,['pop'],a song,False\n" for ytid in ("abc", "dead"))
    (tmp_path / "caps.csv").write_text("ytid,start_s,end_s,aspect_list,caption,is_audioset_eval\n" + lines)
    assert features(tmp_path, str(tmp_path / "caps.csv"), "--audio_dir", str(tmp_path / "clips")) == 1
    assert "skipped [dead]-[30-40]: no sound was found for it" in capsys.readouterr().err


def test_two_files_of_one_name_are_not_mixed_up(tmp_path, capsys):
    sound(tmp_path / "songs/x/a.wav")
    sound(tmp_path / "songs/y/a.wav", 550)
    assert features(tmp_path, str(tmp_path / "songs")) == 1
    assert "clip_id column" in capsys.readouterr().err


def test_damage_is_found_and_mended(tmp_path, capsys):
    sound(tmp_path / "songs/a.wav")
    sound(tmp_path / "songs/b.wav", 550)
    features(tmp_path, str(tmp_path / "songs"))
    assert main(["features", "--verify", "--features", str(tmp_path / "features")]) == 0
    assert main(["features", "songs/", "--verify"]) == 2
    shard = next((tmp_path / "features").glob("*/shard-*.bin"))
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert features(tmp_path, "--verify") == 1
    assert "changed on disk" in capsys.readouterr().out
    assert features(tmp_path, "--repair") == 1
    assert features(tmp_path, "--verify") == 0
    assert features(tmp_path, str(tmp_path / "songs")) == 0
    assert "computed            1" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nothing.txt"], ["--verify"]])
def test_what_cannot_be_done_is_status_2(tmp_path, capsys, arguments):
    assert features(tmp_path, *arguments) == 2
    assert capsys.readouterr().err.startswith("descant features: ")


def test_extractor_of_a_saved_model_has_a_store_of_its_own(tmp_path):
    sound(tmp_path / "songs/a.wav")
    model, processor = build_tiny_model()
    processor.feature_extractor = LPMusicCapsFeatureExtractor(window_s=2.0)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    assert features(tmp_path, str(tmp_path / "songs"), "--model", str(tmp_path / "model")) == 0
    store = FeatureStore(tmp_path / "features", LPMusicCapsFeatureExtractor(window_s=2.0).to_dict())
    assert store.read("a").shape == (128, 201) and "a" not in open_store(tmp_path)


def test_a_store_that_is_taken_away_meanwhile_is_missed(tmp_path, monkeypatch, capsys) -> None:
    for name in ("a", "b"):
        sound(tmp_path / "songs" / f"{name}.wav")

    def extract_and_lose(clips, extractor, store, *options):
        done = extract_features(clips, extractor, store, *options)
        shutil.rmtree(store.folder)
        return done

    monkeypatch.setattr("descant.data.extraction.extract_features", extract_and_lose)
    assert features(tmp_path, str(tmp_path / "songs")) == 1
    assert "2 clips have neither a feature nor a reason, a first" in capsys.readouterr().err
    monkeypatch.undo()
    assert features(tmp_path, str(tmp_path / "songs")) == 0

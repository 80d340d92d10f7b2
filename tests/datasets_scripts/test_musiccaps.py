"""The MusicCaps builder: directly, as a program, at the published size."""

import re

import pytest
from annotation_files import COLUMNS, write_clips, write_musiccaps
from datasets import load_dataset

from descant.data.features import FeatureStore
from descant.data.splits import LeakError

# One a line, so that datasets 3's pattern finds them: no bracket, no comma, no continuation.
ONE_IMPORT = re.compile(r"(import [\w.]+|from [\w.]+ import \w+)")


@pytest.fixture
def musiccaps(scripts):
    import musiccaps

    return musiccaps


def build(builder, **splits):
    builder.download_and_prepare()
    return builder.as_dataset()


@pytest.mark.parametrize("name", ["musiccaps", "music_instruct", "ludwig"])
def test_imports_stand_one_a_line(scripts, name):
    lines = (scripts / f"{name}.py").read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert len(imports) > 5 and all(ONE_IMPORT.fullmatch(line) for line in imports)


def test_rows_refer_to_clips_and_split_as_published(musiccaps, tmp_path):
    table = write_musiccaps(tmp_path / "caps.csv", 400)
    splits = build(musiccaps.MusicCaps(config_name="captions", annotations=table, cache_dir=tmp_path / "cache"))
    assert len(splits["test"]) == 100 and len(splits["train"]) + len(splits["validation"]) == 300
    assert 3 < len(splits["validation"]) < 40
    row = splits["train"][0]
    assert row["clip_id"].startswith("[clip") and row["question"] is None and row["tags"] == ["pop", "sad"]
    assert (row["start_s"], row["end_s"], row["source"]) == (30, 40, "musiccaps")


def test_processes_build_what_one_builds(musiccaps, tmp_path):
    table = write_musiccaps(tmp_path / "caps.csv", 60)
    one = build(musiccaps.MusicCaps(annotations=table, cache_dir=tmp_path / "one"))
    two = musiccaps.MusicCaps(annotations=table, cache_dir=tmp_path / "two")
    two.download_and_prepare(num_proc=2)
    assert two.as_dataset(split="train")[:] == one["train"][:]


def test_cache_follows_the_content_and_not_the_place(musiccaps, tmp_path):
    first = write_musiccaps(tmp_path / "caps.csv", 20)
    (tmp_path / "moved").mkdir()
    same = write_musiccaps(tmp_path / "moved/other.csv", 20)
    more = write_musiccaps(tmp_path / "more.csv", 21)
    hashes = [musiccaps.MusicCaps(annotations=path, cache_dir=tmp_path / "cache").hash for path in (first, same, more)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_recording_in_train_and_test_stops_the_build(musiccaps, tmp_path):
    line = "abc,{},{},/m/1,['pop'],a song,4,False,{}\n"
    (tmp_path / "caps.csv").write_text(COLUMNS + line.format(0, 10, False) + line.format(50, 60, True))
    with pytest.raises(LeakError, match="the same recording"):
        musiccaps.MusicCaps(annotations=tmp_path / "caps.csv", cache_dir=tmp_path / "cache").download_and_prepare()


def run(musiccaps, tmp_path, *options) -> int:
    return musiccaps.main([*map(str, options), "--features", str(tmp_path / "features")])


def test_program_builds_a_folder_that_load_dataset_reads(musiccaps, tmp_path, capsys):
    table, clips = write_musiccaps(tmp_path / "caps.csv", 12), write_clips(tmp_path / "clips", range(12))
    output = tmp_path / "out"
    assert run(musiccaps, tmp_path, "--annotations", table, "--audio_dir", clips, "--output", output) == 0
    assert "12 clips, 0 of them without sound" in capsys.readouterr().out
    splits = load_dataset(str(output), "captions")
    assert sum(len(part) for part in splits.values()) == 12
    stored = FeatureStore.open(next((tmp_path / "features").glob("*")))
    assert {row for part in splits.values() for row in part["clip_id"]} == set(stored.keys())
    card = (output / "README.md").read_text()
    assert "license: cc-by-sa-4.0" in card and "| captions | test | 3 | 3 |" in card and str(tmp_path) not in card


def test_captioning_recipe_trains_on_the_built_folder(musiccaps, tmp_path):
    from tiny import save_tiny_model

    from descant.training import Recipe, Stage
    from descant.training.run import read_job
    from descant.training.run import run as run_training

    table, clips = write_musiccaps(tmp_path / "caps.csv", 60), write_clips(tmp_path / "clips", range(60))
    assert run(musiccaps, tmp_path, "--annotations", table, "--audio_dir", clips, "--output", tmp_path / "out") == 0
    recipe = Recipe(name="captions", stages=(Stage("captions", 1),))
    options = {"dataset": tmp_path / "out", "init_from": save_tiny_model(tmp_path / "tiny"), "eval_steps": 1}
    options |= {"features": tmp_path / "features", "output_dir": tmp_path / "model", "max_steps": 1}
    options |= {"per_device_train_batch_size": 4, "eval_answers": 1, "draws_per_epoch": 8, "use_cpu": True}
    run_training(read_job(recipe, [f"--{name}={value}" for name, value in options.items()]))
    assert "eval_loss" in (tmp_path / "model/training_log.jsonl").read_text()


def test_program_leaves_out_clips_without_sound_and_says_why(musiccaps, tmp_path, capsys):
    table, clips = write_musiccaps(tmp_path / "caps.csv", 8), write_clips(tmp_path / "clips", range(6))
    (clips / "[clip0001]-[30-40].flac").write_bytes(b"broken")
    (clips / "ledger.jsonl").write_text('{"clip_id": "[clip0006]-[30-40]", "status": "private"}\n')
    options = ["--annotations", table, "--audio_dir", clips, "--output", tmp_path / "out"]
    assert run(musiccaps, tmp_path, *options) == 1
    reasons = (tmp_path / "out/missing_clips.jsonl").read_text()
    assert reasons.count("\n") == 3
    assert '"unreadable: ' in reasons and '"private"' in reasons and '"no sound found"' in reasons
    assert "1 no sound found" in (tmp_path / "out/README.md").read_text()


def test_same_sound_in_train_and_test_stops_the_program(musiccaps, tmp_path, capsys):
    table, clips = write_musiccaps(tmp_path / "caps.csv", 8), write_clips(tmp_path / "clips", range(8))
    (clips / "[clip0003]-[30-40].flac").write_bytes((clips / "[clip0000]-[30-40].flac").read_bytes())
    options = ["--annotations", table, "--audio_dir", clips, "--output", tmp_path / "out"]
    assert run(musiccaps, tmp_path, *options) == 2
    assert "the same sound stands in two splits: [clip0000]" in capsys.readouterr().err


def test_bad_record_is_named_and_makes_status_1(musiccaps, tmp_path, capsys):
    table = write_musiccaps(tmp_path / "caps.csv", 8)
    table.write_text(table.read_text() + "../../x,30,40,/m/1,['pop'],a song,4,False,False\n")
    assert run(musiccaps, tmp_path, "--annotations", table, "--output", tmp_path / "out") == 1
    assert "caps.csv:10: ../../x" in capsys.readouterr().err


def test_published_file_builds_whole(musiccaps, tmp_path, shared_dir):
    table = shared_dir / "data/musiccaps/musiccaps-public.csv"
    splits = build(musiccaps.MusicCaps(annotations=table, cache_dir=tmp_path / "cache"))
    assert len(splits["test"]) == 2858 and len(splits["train"]) + len(splits["validation"]) == 2663


def test_program_downloads_what_no_folder_has(musiccaps, tmp_path, monkeypatch, capsys):
    from audio_server import AudioServer, encode, music

    from descant.building import clip_rows
    from descant.data.download import DownloadSettings

    table, clips = write_musiccaps(tmp_path / "caps.csv", 3), write_clips(tmp_path / "clips", range(1))
    with AudioServer() as server:
        server.files["clip0001"] = encode(music(42, 8_000), "wav", 8_000)
        fast = DownloadSettings(sleep_s=0, retry_wait_s=0, url_template=server.template)
        monkeypatch.setattr(clip_rows, "DownloadSettings", lambda: fast)
        options = ["--audio_dir", clips, "--download_dir", tmp_path / "fetched", "--output", tmp_path / "out"]
        assert run(musiccaps, tmp_path, "--annotations", table, *options) == 1
        assert server.count("clip0000") == 0
    assert '"removed"' in (tmp_path / "out/missing_clips.jsonl").read_text()
    stored = FeatureStore.open(next((tmp_path / "features").glob("*")))
    assert sorted(stored.keys()) == ["[clip0000]-[30-40]", "[clip0001]-[30-40]"]

"""The MusicInstruct builder: its three configurations, one feature a clip, and its way to the Hub and back."""

import json

import pytest
from annotation_files import write_clips, write_music_instruct, write_musiccaps
from datasets import load_dataset

from descant.data.features import FeatureStore, import_features


@pytest.fixture
def music_instruct(scripts):
    import music_instruct

    return music_instruct


@pytest.fixture
def sources(tmp_path):
    return {
        "musiccaps": write_musiccaps(tmp_path / "caps.csv", 12),
        "annotations": write_music_instruct(tmp_path / "mi", 12),
    }


def run(music_instruct, tmp_path, sources, *options) -> int:
    given = [part for name, value in sources.items() for part in (f"--{name}", str(value))]
    return music_instruct.main([*given, "--features", str(tmp_path / "features"), *map(str, options)])


@pytest.mark.parametrize(("config", "rows"), [("short", 36), ("long", 24), ("all", 60)])
def test_configuration_has_its_questions(music_instruct, tmp_path, sources, config, rows):
    builder = music_instruct.MusicInstruct(config_name=config, cache_dir=tmp_path / "cache", **sources)
    builder.download_and_prepare()
    splits = builder.as_dataset()
    assert sum(len(part) for part in splits.values()) == rows
    row = splits["test"][0]
    assert (row["clip_id"], row["question"][-3:], row["answer"]) == ("[clip0003]-[30-40]", " 0?", "yes 3")
    assert row["question_type"] is None and row["source"].startswith("music_instruct_")


@pytest.mark.parametrize(
    ("name", "config"), [("music_instruct_short.json", "long"), ("MusicInstruct.json", "short"), ("LONG.json", "all")]
)
def test_file_that_is_named_as_another_configurations_is_refused(
    music_instruct, tmp_path, sources, capsys, name, config
):
    path = (sources["annotations"] / "music_instruct_long.json").rename(tmp_path / name)
    given = sources | {"annotations": path}
    assert run(music_instruct, tmp_path, given, "--dataset_config", config, "--output", tmp_path / "out") == 2
    assert f"not of {config!r}" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_file_of_any_other_name_is_taken_for_one_configuration_only(music_instruct, tmp_path, sources, capsys):
    path = (sources["annotations"] / "music_instruct_short.json").rename(tmp_path / "questions.json")
    given = sources | {"annotations": path}
    assert run(music_instruct, tmp_path, given, "--dataset_config", "short", "--output", tmp_path / "out") == 0
    with pytest.raises(SystemExit, match="2"):
        run(music_instruct, tmp_path, given, "--dataset_config", "short", "long", "--output", tmp_path / "both")
    assert "is one file for 2 configs" in capsys.readouterr().err


def test_combined_file_comes_before_the_two(music_instruct, tmp_path, sources):
    one = {"QA": [{"ytid": "clip0000", "question": "?", "answer": "yes", "is_audioset_eval": True}]}
    (sources["annotations"] / "music_instruct.json").write_text(json.dumps(one))
    builder = music_instruct.MusicInstruct(config_name="all", cache_dir=tmp_path / "cache", **sources)
    assert len(builder.read().rows) == 1


def test_feature_is_stored_once_however_many_questions(music_instruct, tmp_path, sources):
    clips = write_clips(tmp_path / "clips", range(12))
    options = ["--dataset_config", "short", "long", "--audio_dir", clips, "--output", tmp_path / "out"]
    assert run(music_instruct, tmp_path, sources, *options) == 0
    store = FeatureStore.open(next((tmp_path / "features").glob("*")))
    stored = sum(shard.stat().st_size for shard in store.folder.glob("shard-*.bin"))
    assert len(store) == 12 and stored == 12 * store.record_bytes


def test_later_configuration_joins_the_card_of_the_folder(music_instruct, tmp_path, sources):
    for config in ("short", "long"):
        run(music_instruct, tmp_path, sources, "--dataset_config", config, "--output", tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "config_name: short" in card and "config_name: long" in card and "cc-by-nc-4.0" in card


def test_question_about_an_unknown_clip_is_named(music_instruct, tmp_path, sources, capsys):
    one = {"QA": [{"ytid": "nobody", "question": "?", "answer": "yes", "is_audioset_eval": True}]}
    (sources["annotations"] / "music_instruct.json").write_text(json.dumps(one))
    run(music_instruct, tmp_path, sources, "--dataset_config", "all", "--output", tmp_path / "out")
    assert "music_instruct.json:1: nobody" in capsys.readouterr().err


def test_features_without_sound_are_refused(music_instruct, tmp_path, sources, capsys):
    options = ["--include_features", "--output", tmp_path / "out"]
    assert run(music_instruct, tmp_path, sources, *options) == 2
    assert "needs sound" in capsys.readouterr().err


READ_BACK = """
import json, os, sys
from datasets import get_dataset_config_names, load_dataset
from descant.data.features import import_features
from descant.data.corpus import load_corpus

def read(name):
    rows = load_dataset(name, "short")
    stream = list(load_dataset(name, "short", split="test", streaming=True))
    try:
        features = sorted(import_features(name, sys.argv[1]).manifest())
    except ValueError as error:
        features = str(error)
    counts = {split: len(part) for split, part in rows.items()}
    corpus = load_corpus(name, ["short"])
    assert counts == {split: len(corpus.rows("short", split)) for split in counts}, "a recipe reads other rows"
    assert corpus.licence == "cc-by-nc-4.0", corpus.licence
    return [counts, stream == list(rows["test"]), get_dataset_config_names(name), features]

print(json.dumps([read("tester/bare"), read("tester/mi")]), flush=True)
os._exit(0)  # Arrow's threads of a stream may abort a process that ends behind it (apache/arrow#45214)
"""


def test_pushed_dataset_comes_back_whole_and_in_a_stream(music_instruct, tmp_path, sources, local_hub):
    clips = write_clips(tmp_path / "clips", range(12))
    options = ["--dataset_config", "short", "--audio_dir", clips, "--output", tmp_path / "out"]
    assert run(music_instruct, tmp_path, sources, *options, "--push_to_hub", "tester/bare") == 0
    assert run(music_instruct, tmp_path, sources, *options, "--push_to_hub", "tester/mi", "--include_features") == 0
    done = local_hub.run(tmp_path / "home", "-c", READ_BACK, str(tmp_path / "imported"))
    assert done.returncode == 0, done.stderr
    bare, full = json.loads(done.stdout)
    for counts, streamed, _, _ in (bare, full):
        assert sum(counts.values()) == 36 and counts["test"] == 9 and streamed
    store = FeatureStore.open(next((tmp_path / "features").glob("*")))
    assert bare[2] == ["short"] and "published without features" in bare[3]
    assert full[2:] == [["features", "short"], [list(entry) for entry in store.manifest()]]
    for name in ("tester/bare", "tester/mi"):
        files = local_hub.files(name, "dataset")
        assert not any(file.endswith((".flac", ".wav", ".bin", ".npy")) for file in files)


def test_second_push_takes_away_what_is_no_longer_built(music_instruct, tmp_path, sources, local_hub):
    clips = write_clips(tmp_path / "clips", range(12))
    options = ["--dataset_config", "short", "--audio_dir", clips, "--push_to_hub", "tester/mi"]
    run(music_instruct, tmp_path, sources, *options, "--include_features", "--output", tmp_path / "one")
    run(music_instruct, tmp_path, sources, *options, "--output", tmp_path / "two")
    files = local_hub.files("tester/mi", "dataset")
    assert "short/test-00000-of-00001.parquet" in files and not any(name.startswith("features/") for name in files)
    silent = ["--features", tmp_path / "no_features", "--output", tmp_path / "three"]
    run(music_instruct, tmp_path, sources, "--push_to_hub", "tester/mi", *silent)
    assert "missing_clips.jsonl" in files and "missing_clips.jsonl" not in local_hub.files("tester/mi", "dataset")


def test_features_of_a_local_folder_are_imported_and_go_on_after_a_stop(music_instruct, tmp_path, sources):
    clips = write_clips(tmp_path / "clips", range(12))
    options = ["--dataset_config", "short", "--audio_dir", clips, "--output", tmp_path / "out", "--include_features"]
    run(music_instruct, tmp_path, sources, *options)
    original = FeatureStore.open(next((tmp_path / "features").glob("*")))
    begun = FeatureStore(tmp_path / "imported", original.settings)
    some = next(original.keys())
    begun.write_record(some, original.read_record(some), original.sha256(some))
    imported = import_features(str(tmp_path / "out"), tmp_path / "imported")
    assert imported.manifest() == original.manifest() and imported.verify() == []
    assert len(load_dataset(str(tmp_path / "out"), "short")["test"]) == 9


def test_hub_that_refuses_leaves_the_dataset_on_disk(music_instruct, tmp_path, sources, local_hub, capsys):
    local_hub.fail(403, "POST .*/commit")
    options = ["--dataset_config", "short", "--output", tmp_path / "out", "--push_to_hub", "tester/mi"]
    assert run(music_instruct, tmp_path, sources, *options) == 2
    assert "tester/mi was not published, the dataset lies in" in capsys.readouterr().err
    assert (tmp_path / "out/short/test-00000-of-00001.parquet").exists()
    assert run(music_instruct, tmp_path, sources, *options) == 0


def test_recipes_read_the_folder_and_find_its_features(music_instruct, tmp_path, sources):
    from descant.data.corpus import load_corpus

    clips = write_clips(tmp_path / "clips", range(12))
    run(music_instruct, tmp_path, sources, "--audio_dir", clips, "--output", tmp_path / "out")
    corpus = load_corpus(str(tmp_path / "out"), ["short"])
    store = FeatureStore.open(next((tmp_path / "features").glob("*")))
    assert corpus.licence == "cc-by-nc-4.0" and len(corpus.revision) == 16
    assert {row.clip_id for row in corpus.rows("short", "test")} <= set(store.keys())
    assert sum(len(corpus.rows("short", split)) for split in corpus.splits()) == 36


def test_recipe_fetches_the_published_features_that_neither_store_nor_sound_gives(
    music_instruct, tmp_path, sources, caplog
):
    from descant.data.corpus import load_corpus
    from descant.data.extraction import prepare_features
    from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor

    clips, some = write_clips(tmp_path / "clips", range(12)), write_clips(tmp_path / "some", range(2))
    options = ["--dataset_config", "short", "--audio_dir", clips, "--output", tmp_path / "out", "--include_features"]
    run(music_instruct, tmp_path, sources, *options)
    original = FeatureStore.open(next((tmp_path / "features").glob("*")))
    stopped = FeatureStore(tmp_path / "fetched", original.settings)
    stopped.write_record("[clip0005]-[30-40]", original.read_record("[clip0005]-[30-40]"), "")
    corpus = load_corpus(str(tmp_path / "out"), ["short"], str(some))
    fetched = prepare_features(corpus, LPMusicCapsFeatureExtractor(), str(tmp_path / "fetched"))
    assert [entry[::2] for entry in fetched.manifest()] == [entry[::2] for entry in original.manifest()]
    prepare_features(corpus, LPMusicCapsFeatureExtractor(window_s=2.0), str(tmp_path / "fetched"))
    assert "features of other settings" in caplog.text

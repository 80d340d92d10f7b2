"""What a model folder says it was trained on, also through an earlier model."""

import pytest

from descant.data.splits import ClipHashes
from descant.publish.records import CLIPS_FILE, describe_data, inherit_records, read_records, write_records

READ = "import sys; from descant.publish.records import read_records; print(read_records(sys.argv[1]))"


def test_records_are_carried_on_from_the_model_that_training_began_with(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    captions = describe_data("musiccaps", "1", "cc-by-sa-4.0", ["a", "b"], ["captions"])
    answers = describe_data("music_instruct", "2", "cc-by-nc-4.0", ["b", "c"], ["short"])
    write_records(first, [captions], {"b": ClipHashes("22"), "a": ClipHashes("11")}, None)
    write_records(second, [answers], {"c": ClipHashes("33"), "b": ClipHashes("22")}, str(first))
    datasets, clips = read_records(str(second))
    assert [one["id"] for one in datasets] == ["musiccaps", "music_instruct"]
    assert list(clips.items()) == [("a", ClipHashes("11")), ("b", ClipHashes("22")), ("c", ClipHashes("33"))]


def test_the_same_clips_give_the_same_bytes(tmp_path):
    write_records(tmp_path, [], {"b": ClipHashes("2"), "a": ClipHashes("1")}, None)
    before = (tmp_path / CLIPS_FILE).read_bytes()
    write_records(tmp_path, [], {"a": ClipHashes("1"), "b": ClipHashes("2")}, None)
    assert (tmp_path / CLIPS_FILE).read_bytes() == before


def test_clips_may_have_names_of_any_kind(tmp_path):
    clips = {name: ClipHashes("f", "5:0-10") for name in ("tab\there", "line\u2028here", "no text \udcff")}
    write_records(tmp_path, [], clips, None)
    assert read_records(str(tmp_path))[1] == clips


def test_a_folder_without_records_gives_none(tmp_path):
    assert read_records(str(tmp_path)) == ([], {})


@pytest.mark.parametrize(("card", "licence"), [(None, "unknown"), ("cc-by-nc-4.0", "cc-by-nc-4.0")])
def test_a_model_without_records_hands_on_itself(tmp_path, card, licence):
    start, trained = tmp_path / "start", tmp_path / "trained"
    start.mkdir()
    if card:
        (start / "README.md").write_text(f"---\nlicense: {card}\n---\nA model.")
    write_records(trained, [describe_data("mine", "1", "mit", ["a"], ["short"])], {"a": ClipHashes("1")}, str(start))
    datasets, clips = inherit_records(str(trained))
    assert [(one["id"], one["licence"]) for one in datasets] == [("start", licence), ("mine", "mit")]
    assert clips == {"a": ClipHashes("1")}


def test_a_dataset_in_a_folder_is_recorded_by_its_name(tmp_path):
    assert describe_data(str(tmp_path / "music"), "1", "mit", ["a"], ["short"])["id"] == "music"
    assert describe_data("someone/music", "1", "mit", ["a"], ["short"])["id"] == "someone/music"


def test_records_on_the_hub_that_cannot_be_reached_are_an_error(local_hub, tmp_path):
    entry = describe_data("mine", "1", "mit", ["a"], ["short"])
    write_records(tmp_path / "trained", [entry], {"a": ClipHashes("1")}, None)
    local_hub.api().create_repo("tester/trained")
    local_hub.api().upload_folder(repo_id="tester/trained", folder_path=tmp_path / "trained")
    offline = {**local_hub.environment(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    away = local_hub.run(tmp_path / "home", "-c", READ, "tester/trained", environment=offline)
    assert "ValueError: tester/trained: what it was trained on cannot be read" in away.stderr
    assert "'a': ClipHashes(features='1'" in local_hub.run(tmp_path / "home", "-c", READ, "tester/trained").stdout
    kept = local_hub.run(tmp_path / "home", "-c", READ, "tester/trained", environment=offline)
    assert "'a': ClipHashes(features='1'" in kept.stdout, kept.stderr


def test_a_model_on_the_hub_that_was_seen_to_have_no_records_has_none_offline(local_hub, tmp_path):
    local_hub.api().create_repo("tester/bare")
    offline = {**local_hub.environment(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    for environment in (None, offline):
        done = local_hub.run(tmp_path / "home", "-c", READ, "tester/bare", environment=environment)
        assert done.stdout.strip() == "([], {})", done.stderr


def test_a_model_that_the_hub_does_not_show_is_an_error(local_hub, tmp_path):
    done = local_hub.run(tmp_path / "home", "-c", READ, "tester/nothing")
    assert "tester/nothing: what it was trained on cannot be read" in done.stderr

"""What a model folder says it was trained on, also through an earlier model."""

from descant.training.records import CLIPS_FILE, describe_data, read_records, write_records


def test_records_are_carried_on_from_the_model_that_training_began_with(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    captions = describe_data("musiccaps", "1", "cc-by-sa-4.0", ["a", "b"], ["captions"])
    answers = describe_data("music_instruct", "2", "cc-by-nc-4.0", ["b", "c"], ["short"])
    write_records(first, [captions], {"b": "22", "a": "11"}, None)
    write_records(second, [answers], {"c": "33", "b": "22"}, str(first))
    datasets, clips = read_records(str(second))
    assert [one["id"] for one in datasets] == ["musiccaps", "music_instruct"]
    assert list(clips.items()) == [("a", "11"), ("b", "22"), ("c", "33")]


def test_the_same_clips_give_the_same_bytes(tmp_path):
    write_records(tmp_path, [], {"b": "2", "a": "1"}, None)
    before = (tmp_path / CLIPS_FILE).read_bytes()
    write_records(tmp_path, [], {"a": "1", "b": "2"}, None)
    assert (tmp_path / CLIPS_FILE).read_bytes() == before


def test_a_folder_without_records_gives_none(tmp_path):
    assert read_records(str(tmp_path)) == ([], {})

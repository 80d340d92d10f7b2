"""Validation is cut from train by recording and stays put; leaks by clip, recording or audio are refused."""

from dataclasses import replace

import pytest

from descant.data.annotations import Row, make_clip_id
from descant.data.splits import (
    ClipHashes,
    LeakError,
    check_leaks,
    cut_validation,
    find_leaks,
    is_validation,
    refuse_leaks,
)


def row(name: str, split: str = "train", start_s: float = 0) -> Row:
    return Row(make_clip_id(name, start_s, start_s + 10), None, "x", None, "musiccaps", start_s, start_s + 10, split)


ROWS = [row(f"clip{i}") for i in range(2000)] + [row(f"test{i}", "test") for i in range(50)]


def test_share_of_train_is_held_out_and_test_is_untouched():
    splits = cut_validation(ROWS)
    assert 60 < len(splits["validation"]) < 140
    assert len(splits["train"]) + len(splits["validation"]) == 2000 and len(splits["test"]) == 50
    assert {row.split for row in splits["validation"]} == {"validation"}


def test_added_rows_move_no_clip():
    before = {row.clip_id for row in cut_validation(ROWS[:500])["validation"]}
    after = {row.clip_id for row in cut_validation(reversed(ROWS))["validation"]}
    assert before == {clip for clip in after if int(clip[5:].split("]")[0]) < 500}


def test_other_seed_is_another_choice():
    chosen = [{row.clip_id for row in cut_validation(ROWS, seed)["validation"]} for seed in (0, 1)]
    assert chosen[0] != chosen[1]


def test_two_windows_of_a_recording_fall_together():
    for name in (f"clip{i}" for i in range(200)):
        assert is_validation(make_clip_id(name, 0, 10)) == is_validation(make_clip_id(name, 90, 100))


def test_recording_in_two_splits_is_a_leak():
    with pytest.raises(LeakError, match=r"\[a\]-\[0-10\] in train, \[a\]-\[50-60\] in test"):
        check_leaks({"train": [row("a")], "test": [row("a", "test", 50)]})


def test_same_sound_under_two_names_is_a_leak():
    splits = {"train": [row("a"), row("c")], "validation": [], "test": [row("b", "test")]}
    check_leaks(splits)
    check_leaks(splits, feature_hash=lambda clip_id: clip_id)
    with pytest.raises(LeakError, match="the same sound"):
        check_leaks(splits, feature_hash=lambda clip_id: "same" if clip_id[1] in "ab" else "other")


def test_many_questions_of_one_clip_are_no_leak():
    check_leaks({"train": [replace(row("a"), question=str(i)) for i in range(3)], "test": [row("b", "test")]})


TRAINED = {"[abc]-[0-10]": "f00", "song": "ba5", "both": "fea 50d", "unhashed": ""}


def parse(clips: dict[str, str | None]) -> dict[str, ClipHashes]:
    return {clip: ClipHashes.parse(text or "") for clip, text in clips.items()}


@pytest.mark.parametrize(
    ("text", "hashes"),
    [("fea 50d:10-20", ClipHashes("fea", "50d:10-20")), ("fea", ClipHashes("fea")), ("", ClipHashes())],
)
def test_hashes_stand_in_one_text_as_records_hold_them(text, hashes) -> None:
    assert ClipHashes.parse(text) == hashes and str(hashes) == text


@pytest.mark.parametrize(
    ("tested", "leaks"),
    [
        ({"song": "other"}, ["song"]),
        ({"[abc]-[30-40]": None, "abc": None}, ["[abc]-[30-40]", "abc"]),
        ({"renamed": "ba5"}, ["renamed"]),
        ({"renamed": "ba5 000", "recoded": "fea 111", "elsewhere": "222 50d"}, ["elsewhere", "recoded", "renamed"]),
        ({"renamed": "000 ba5:10-20", "cut": "f00:0-5", "other": "c0c:10-20"}, ["cut", "renamed"]),
        ({"new": "c0c", "new too": None, "empty": ""}, []),
    ],
)
def test_a_clip_leaks_by_its_id_its_recording_or_its_audio(tested, leaks) -> None:
    assert find_leaks(parse(TRAINED), parse(tested)) == leaks


def test_a_leak_is_refused_with_a_clips_name_and_the_way_out() -> None:
    with pytest.raises(LeakError, match="trained on 2 clips of the test split, a among them.*--allow_leak"):
        refuse_leaks(["a", "b"], "model", "test")
    refuse_leaks([], "model", "test")

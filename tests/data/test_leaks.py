"""Leaks: by clip, by recording, by audio."""

import pytest

from descant.data.splits import ClipHashes, LeakError, find_leaks, refuse_leaks

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

"""Leaks: by clip, by recording, by audio."""

import pytest

from descant.evaluation.leakage import LeakError, find_leaks, refuse_leaks

TRAINED = {"[abc]-[0-10]": "f00", "song": "ba5", "unhashed": ""}


@pytest.mark.parametrize(
    ("tested", "leaks"),
    [
        ({"song": "other"}, ["song"]),
        ({"[abc]-[30-40]": None, "abc": None}, ["[abc]-[30-40]", "abc"]),
        ({"renamed": "ba5"}, ["renamed"]),
        ({"new": "c0c", "new too": None, "empty": ""}, []),
    ],
)
def test_a_clip_leaks_by_its_id_its_recording_or_its_audio(tested, leaks) -> None:
    assert find_leaks(TRAINED, tested) == leaks


def test_a_leak_is_refused_with_a_clips_name_and_the_way_out() -> None:
    with pytest.raises(LeakError, match="trained on 2 clips of the test split, a among them.*--allow-leak"):
        refuse_leaks(["a", "b"], "model", "test")
    refuse_leaks([], "model", "test")

"""The shuffled-audio control: every clip hears another one."""

import pytest

from descant.evaluation import derangement


@pytest.mark.parametrize("seed", range(20))
def test_no_clip_hears_itself_and_each_is_heard_once(seed: int) -> None:
    clips = [f"clip{number}" for number in range(7)]
    heard = derangement([*clips, "clip0"], seed)
    assert sorted(heard) == sorted(heard.values()) == clips
    assert all(clip != other for clip, other in heard.items())


def test_the_seed_decides() -> None:
    clips = [str(number) for number in range(30)]
    assert derangement(clips, 1) == derangement(clips, 1) != derangement(clips, 2)


def test_one_clip_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="two clips"):
        derangement(["a", "a"], 0)

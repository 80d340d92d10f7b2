"""Whether a model was trained on clips that it is to be tested on."""

from collections.abc import Iterable, Mapping

from descant.data.annotations import parse_clip_id


class LeakError(ValueError):
    """Test clips stand among the model's training clips."""


def find_leaks(trained: Mapping[str, str], tested: Mapping[str, str | None]) -> list[str]:
    """The tested clips that the model was trained on, sorted.

    Both map a clip id to the sha256 of its features and of its sound file, with a space between, or to one of them (or
    None: unknown). A clip leaks when its id, its recording (another window of the same YouTube video) or its audio
    under another name, or another window of that, was trained on.
    """
    recordings = set(map(recording_of, trained))
    hashes = {one for both in trained.values() for one in _hashes(both)}
    return sorted(
        clip for clip, both in tested.items()
        if recording_of(clip) in recordings or not hashes.isdisjoint(_hashes(both or ""))
    )  # fmt: skip


def _hashes(both: str) -> list[str]:
    """Each without the `:<start>-<end>` that follows the file's where the clip was cut out of it."""
    return [one.split(":")[0] for one in both.split()]


def recording_of(clip_id: str) -> str:
    """The YouTube id of a MusicCaps clip; any other clip is its own recording."""
    clip = parse_clip_id(clip_id)
    return clip[0] if clip else clip_id


def refuse_leaks(leaks: Iterable[str], model: str, split: str) -> None:
    """Raises LeakError where there are any."""
    leaks = list(leaks)
    if leaks:
        raise LeakError(
            f"{model} was trained on {len(leaks)} clips of the {split} split, {leaks[0]} among them: its scores there "
            "would measure memory. Choose another split, or pass --allow_leak to see them all the same"
        )

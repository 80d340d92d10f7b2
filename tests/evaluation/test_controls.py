"""Audio controls: what is heard in the place of the clip."""

import numpy as np
import pytest

from descant.evaluation.controls import Condition, Noise, Silence, make_conditions
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor


class Store:
    """Each clip's features are its id."""

    def read(self, clip_id: str, out=None) -> str:
        return clip_id


@pytest.fixture(scope="module")
def extractor() -> LPMusicCapsFeatureExtractor:
    return LPMusicCapsFeatureExtractor()


def test_shuffled_audio_is_always_another_clips(extractor) -> None:
    clips = ["a", "b", "c", "c"]
    shuffled = make_conditions(Store(), extractor, clips, asked=True)[0]
    assert {shuffled.read(clip) for clip in clips} == set(clips)
    assert all(shuffled.read(clip) != clip for clip in clips)


def test_noise_is_the_clips_own_and_comes_again(extractor) -> None:
    noise = Noise(extractor)
    assert np.array_equal(noise.read("a"), noise.read("a"))
    assert not np.array_equal(noise.read("a"), noise.read("b"))
    assert noise.read("a").shape == (128, 1001) and noise.read("a").dtype == np.float32


def test_silence_is_flat_and_as_low_as_features_go(extractor) -> None:
    silence = Silence(extractor).read("a")
    assert silence.shape == (128, 1001) and silence.max() == silence.min() == -100


def test_the_question_is_left_out_only_where_there_is_one(extractor) -> None:
    asked = make_conditions(Store(), extractor, ["a", "b"], asked=True)
    captions = make_conditions(Store(), extractor, ["a", "b"], asked=False)
    assert [one.name for one in asked] == ["shuffled", "noise", "silence", "no_question"]
    assert [one.asks for one in asked] == [True, True, True, False]
    assert [one.name for one in captions] == ["shuffled", "noise", "silence"]


def test_the_model_as_it_is_used_hears_the_clip_itself() -> None:
    assert Condition("own", Store()).read("a") == "a"

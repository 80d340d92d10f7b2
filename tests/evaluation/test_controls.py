"""Audio controls: what is heard in the place of the clip."""

import json

import numpy as np
import pytest

from descant.data.annotations import Row
from descant.evaluation import controls, derangement
from descant.evaluation.controls import (
    Condition,
    Noise,
    Silence,
    as_record,
    explain_gaps,
    format_listening,
    make_conditions,
    measure_gaps,
    measure_listening,
)
from descant.evaluation.measures import Distinct, mean_of
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


CLIPS = [f"c{i}" for i in range(60)]
NOISE = np.random.default_rng(0).random(60) * 0.2


def gaps_of(own: np.ndarray, **controls: np.ndarray) -> dict:
    return measure_gaps([mean_of("exact", own)], {name: [mean_of("exact", c)] for name, c in controls.items()}, CLIPS)


def test_a_score_that_needs_the_audio_is_called_so() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.7, shuffled=NOISE[::-1] + 0.2, silence=NOISE))
    assert sentence.startswith("exact depends on the audio: 0.") and "with another clip's audio" in sentence


def test_a_score_that_stays_without_the_audio_is_explained_by_text_alone() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.5, shuffled=NOISE[::-1] + 0.5, noise=NOISE))
    assert sentence.startswith("exact is explained by text alone")


def test_a_sure_but_small_gap_is_nearly_explained() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.52, noise=NOISE + 0.5))
    assert sentence.startswith("exact is nearly explained by text alone")


def test_the_commonest_answer_can_be_the_strongest_rival() -> None:
    (sentence,) = explain_gaps(gaps_of(NOISE + 0.5, shuffled=NOISE, majority=NOISE[::-1] + 0.6))
    assert "explained by text alone" in sentence and "the commonest answer" in sentence


def test_a_model_without_a_score_has_nothing_to_explain() -> None:
    (sentence,) = explain_gaps(gaps_of(np.zeros(60), shuffled=np.zeros(60)))
    assert sentence == "exact is 0 with the right audio: there is nothing to explain."


def test_the_control_without_a_question_is_measured_and_not_judged() -> None:
    gaps = gaps_of(NOISE + 0.5, no_question=NOISE)
    assert gaps["no_question"]["exact"].first < 0.2
    assert explain_gaps(gaps) == []


def test_only_agreement_with_references_is_compared() -> None:
    measures = [mean_of("meteor", NOISE), mean_of("length_avg", NOISE), Distinct("vocab_size", [{"a"}] * 60)]
    assert set(measure_gaps(measures, {"noise": measures}, CLIPS)["noise"]) == {"meteor"}


@pytest.mark.parametrize("seed", range(20))
def test_no_clip_hears_itself_and_each_is_heard_once(seed: int) -> None:
    clips = [f"clip{number}" for number in range(7)]
    heard = derangement([*clips, "clip0"], seed)
    assert sorted(heard) == sorted(heard.values()) == clips
    assert all(clip != other for clip, other in heard.items())


def test_the_seed_decides_and_the_order_does_not() -> None:
    clips = [str(number) for number in range(30)]
    assert derangement(clips, 1) == derangement(clips[::-1], 1) != derangement(clips, 2)


def test_another_clip_is_of_another_recording_where_there_is_one():
    clips = [f"[song{number}]-[{start}-{start + 10}]" for number in range(3) for start in (0, 10, 20)]
    for seed in range(20):
        heard = derangement(clips, seed)
        assert sorted(heard.values()) == sorted(clips)
        assert all(clip.split("]")[0] != other.split("]")[0] for clip, other in heard.items())
    assert derangement(clips[:2], 0) == {clips[0]: clips[1], clips[1]: clips[0]}  # of one recording alone


def test_one_clip_cannot_be_shuffled() -> None:
    with pytest.raises(ValueError, match="two clips"):
        derangement(["a", "a"], 0)


GENRES = ["jazz", "rock", "folk", "jazz"]
ROWS = [Row(f"c{clip}", "genre?", genre, "genre", "own", 0, 10) for clip, genre in enumerate(GENRES)]
ROWS.append(Row("c0", "use?", "a film", "long_use", "own", 0, 10))


def answer_truly(model, processor, rows, features, *, heard=None, **_) -> list[str]:
    """A listener that names the genre of what it hears."""
    truth = {row.clip_id: row.answer for row in ROWS[:4]}
    return [truth[heard[row.clip_id] if heard else row.clip_id] for row in rows]


def answer_deafly(model, processor, rows, features, **_) -> list[str]:
    return ["jazz"] * len(rows)


def listening(monkeypatch: pytest.MonkeyPatch, answer) -> controls.Listening:
    monkeypatch.setattr(controls, "answer_rows", answer)
    return measure_listening(None, None, ROWS, ROWS, None)


def test_a_listener_loses_its_score_with_other_audio(monkeypatch) -> None:
    found = as_record(listening(monkeypatch, answer_truly))
    assert (found["own"]["value"], found["deaf"]["value"]) == (100, 50)
    assert found["other"]["value"] < 50


def test_a_deaf_model_keeps_its_score(monkeypatch) -> None:
    found = as_record(listening(monkeypatch, answer_deafly))
    assert found["own"]["value"] == found["deaf"]["value"] == found["other"]["value"] == 50
    assert found["own"]["low"] < 50 < found["own"]["high"]


def test_only_closed_questions_count(monkeypatch) -> None:
    assert as_record(listening(monkeypatch, answer_deafly))["n"] == 4


def test_a_type_that_training_does_not_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="does not answer every type"):
        measure_listening(None, None, ROWS, ROWS[-1:], None)


def test_the_report_is_readable_and_saveable(monkeypatch) -> None:
    found = listening(monkeypatch, answer_truly)
    text = format_listening(found, "Title")
    assert "Title: exact answers to 4 closed questions" in text and "genre" in text
    numbers = json.loads(json.dumps(as_record(found)))
    assert numbers["n"] == 4 and numbers["own"]["value"] == 100
    assert numbers["by_type"]["genre"] == [100, 50, numbers["other"]["value"]]

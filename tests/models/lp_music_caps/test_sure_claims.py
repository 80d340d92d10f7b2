"""Long answers without what is not sure: what is left is whole sentences, and sure."""

import random

import pytest
import torch

from descant.data.demo import load_demo
from descant.evaluation.exact import is_closed
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig
from descant.models.lp_music_caps.sure_claims import (
    SureAnswers,
    find_faults,
    is_sure,
    leave_out,
    read_claims,
)
from descant.models.lp_music_caps.track_music import NOT_SURE, WindowAnswer, answer_track

NOTHING = dict.fromkeys(read_claims(""), frozenset())
SENTENCES = {"genres": {"funk": "This is funk music."}, "drums": {"drums": "Drums keep the beat."}}


def sure_of(*texts: str) -> dict[str, frozenset[str]]:
    return {name: frozenset().union(*(read_claims(text)[name] for text in texts)) for name in NOTHING}


@pytest.mark.parametrize(
    ("text", "sure", "left"),
    [
        ("The tempo is fast. It feels sad.", "fast, sad", "The tempo is fast. It feels sad."),
        ("The tempo is fast. It feels sad.", "fast", "The tempo is fast."),
        ("You can hear piano, flute, bass and drums.", "flute, drums", "You can hear flute, bass and drums."),
        ("Piano and drums keep the beat.", "drums", "Drums keep the beat."),  # in the plural still
        ("Drums and a synth bass keep the beat.", "synth bass", NOT_SURE),  # "a synth bass keep" would be none
        ("This is a sad, fast blues song.", "blues", "This is a blues song."),
        ("This is a fast electronic song.", "electronic", "This is an electronic song."),
        ("An energetic, fast trance tune plays.", "trance", "A trance tune plays."),
        ("This is a fast jazz piece in the style of swing.", "fast jazz", "This is a fast jazz piece."),
        ("A violin takes the lead above chords of organ.", "violin", "A violin takes the lead."),
        ("The tune is played in 3/4.", "", NOT_SURE),  # "The tune is played" asks for more
        ("The metre is 4/4, the pace is steady, and the mood is sad.", "4/4", "The metre is 4/4. The pace is steady."),
        ("The genre is pop and the style is disco.", "disco", "The style is disco."),
        ("It moves at a fast tempo in 4/4 and sounds sad.", "sad", "It sounds sad."),
        ("You are listening to folk, a style of rock.", "folk", "You are listening to folk."),
        ("You are listening to folk, a style of rock.", "rock", NOT_SURE),
        ("There are no drums, only an electric bass below.", "no drums", "There are no drums."),
        ("It is fast. A sentence that was cut in the", "fast", "It is fast."),
        ("fast music, and more of it", "fast", "fast music, and more of it"),  # so the model writes
        ("fast music, and more of it", "", NOT_SURE),
        ("It is jazz music. There are no drums.", "funk. Drums", "This is funk music. Drums keep the beat."),
        ("It is jazz music. It is jazz.", "", NOT_SURE),
        ("It would suit a party: the sad mood lifts the spirits.", "", "It would suit a party."),
        ("A fast tune plays: it is sad, though in 3/4.", "sad, 3/4", "A tune plays. It is sad, though in 3/4."),
        ("A violin sings.", "piano, flute", "Flute and piano are heard."),
    ],
)
def test_what_is_not_sure_is_left_out_and_what_is_sure_said_in_its_place(text, sure, left):
    assert leave_out(text, sure_of(sure), SENTENCES) == left


def test_what_cannot_be_decided_stays():
    assert leave_out("It is jazz in 3/4.", {"drums": frozenset()}, {}) == "It is jazz in 3/4."


def test_of_the_corpus_own_long_answers_whole_sentences_are_left_that_are_sure():
    rows = [row for row in load_demo()["validation"] if not is_closed(row.question_type)]
    drawn, shortened = random.Random(0), 0
    for row in drawn.sample(rows, 60):
        sure = {
            name: frozenset(term for term in sorted(terms) if drawn.random() < 0.5)
            for name, terms in read_claims(row.answer).items()
        }
        left = leave_out(row.answer, sure, {})
        assert not find_faults(row.answer) and not find_faults(left), left
        assert left == NOT_SURE or is_sure(left, sure), (row.answer, sure, left)
        shortened += left not in (NOT_SURE, row.answer)
    assert shortened > 40


@pytest.mark.parametrize(
    "text",
    [
        "", "It is fast", "it is fast.", "Fast.", "It is fast. it is sad.", "It is fast and.", "It is and and fast.",
        "You can hear .", "It is a electric song.", "It is an song.", "It is fast,, sad.",
        "The style is swing, which belongs to.", "It is fast , sad.",
    ],
)  # fmt: skip
def test_what_is_no_row_of_whole_sentences_has_faults(text):
    assert find_faults(text)


class Ears:
    """A model whose audio embeddings are its features; it counts how often it is asked for them."""

    def __init__(self, claims: dict | None) -> None:
        self.decision_config, self.device, self.encoded = MusicDecisionConfig(claims=claims), "cpu", 0

    def get_audio_features(self, features: torch.Tensor) -> torch.Tensor:
        self.encoded += len(features)
        return features


def test_a_clip_is_encoded_once_for_all_questions_about_it():
    claims = {
        "probes": {"tempo_class": {"fast": [1.0, 0.0, 0.0], "slow": [-1.0, 0.0, 0.0]}},
        "thresholds": {"tempo_class": 0.9}, "closed": ["How fast is it?"],
    }  # fmt: skip
    ears = Ears(claims)
    answers = SureAnswers.of(ears)
    loud, soft = torch.full((4, 1), 3.0), torch.full((4, 1), 0.1)
    assert answers.revise("It is fast. It is jazz.", None, loud) == "It is fast. It is jazz."
    assert answers.revise("It is fast. It is jazz.", None, soft) == "It is jazz."
    assert answers.revise("It is slow.", None, loud) == NOT_SURE
    assert answers.revise("It is slow.", "How fast is it?", soft) == "It is slow."
    assert answers.revise("It is fast. It is jazz.", None, loud.clone()) == "It is fast. It is jazz."
    assert ears.encoded == 2
    assert SureAnswers.of(Ears(None)) is None


def test_windows_about_which_nothing_is_sure_have_no_vote_on_long_answers():
    windows = [WindowAnswer(0, 10, NOT_SURE, 0.0), WindowAnswer(10, 20, NOT_SURE, 0.0)]
    said = WindowAnswer(20, 30, "It is fast. It is sad.", -3.0)
    assert answer_track("Describe it.", [*windows, said]).prediction == said.prediction
    assert answer_track(None, [*windows, said]).prediction == said.prediction
    assert answer_track("Who sings?", [*windows, WindowAnswer(20, 30, "A man.", -3.0)]).prediction == NOT_SURE
    assert answer_track(None, windows).prediction == NOT_SURE

"""Questions in a listener's own words: which trained type answers them, and how the answer is said."""

from typing import Any

import pytest

from descant.answering.questions import Reading, keep_to_question, read_question, state_reading
from descant.models import box
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig, QuestionType

TYPES = MusicDecisionConfig.from_pretrained(box.FOLDER).types()
FREE = [
    "What is the title of this song?", "What key is it in?", "How many singers are there?", "Is it fast and happy?",
    "What does the singer sing about?", "Which instruments are missing?", "Why is it sad?", "Is the singer sad?",
    "Is the piano acoustic?", "Is there a choir?", "Is it a sitar?", "Tell me about the song.",
    "What could it be used for?", "Who wrote the melody?", "Does it have a guitar but no drums?", "Describe the song.",
    "Which film would it suit?", "How loud is it?", "What time is the concert?", "?", "Is it good?",
    "Is there a beat?", "Does it have a pace?", "Is it drum and bass?", "Who wrote it and is it sad?",
]  # fmt: skip


@pytest.mark.parametrize(("question", "name", "wanted"), [
    ("What is the genre?", "genre", None), ("what's the GENRE of this song", "genre", None), ("mood?", "mood", None),
    ("What kind of song is this?", "genre", None), ("Which kind of bass is it?", "bass", None),
    ("What sort of music am I listening to?", "genre", None), ("What is the vibe of this track?", "mood", None),
    ("How fast is this song?", "tempo_class", None), ("Is the tempo fast or slow?", "tempo_class", None),
    ("What's the meter?", "metre", None), ("Who is singing?", "voice", None),
    ("Is it folk or rock?", "genre", None), ("Can you tell me how fast it is?", "tempo_class", None),
    ("Is it a happy song?", "mood", "cheerful"), ("Does it sound sad?", "mood", "sad"),
    ("Is it energetic?", "mood", "energetic"), ("Is it calm?", "energy", "calm"),
    ("Slow?", "tempo_class", "slow"), ("What is the tempo of the drums?", None, None),
    ("Is there any guitar?", "guitar", "guitar"), ("Guitars?", "guitar", "guitar"), ("Any drums?", "drums", "drums"),
    ("Does anyone sing?", "vocals", "vocals"), ("Is there no singer?", "vocals", "no vocals"),
    ("Is it in 3/4?", "metre", "3/4"), ("Is the vocalist a man?", "voice", "male"),
    ("Is somebody playing the piano?", "piano", "piano"),
    ("Is the lead instrument a piano?", "lead_instrument", "piano"),
    ("Isn't there a piano?", "piano", "piano"),
    ("Is it acoustic guitar?", "acoustic_guitar", "acoustic guitar"), ("Is it rock music?", "genre", "rock"),
])  # fmt: skip
def test_the_type_that_answers_is_known_by_the_words_that_matter(
    question: str, name: str | None, wanted: str | None
) -> None:
    assert read_question(question, TYPES) == (Reading((name,), wanted) if name else None)


@pytest.mark.parametrize("question", FREE)
def test_what_no_type_asks_is_left_to_the_words_of_the_model(question: str) -> None:
    assert read_question(question, TYPES) is None


@pytest.mark.parametrize(("question", "names"), [
    ("Is there a piano or a guitar?", ("piano", "guitar")), ("Are there drums and bass?", ("drums", "bass")),
    ("Genre, mood and tempo?", ("genre", "mood", "tempo_class")), ("What tempo and metre?", ("tempo_class", "metre")),
    ("What is the genre and what is the mood?", ("genre", "mood")),
])  # fmt: skip
def test_a_question_that_joins_several_is_read_part_by_part(question: str, names: tuple[str, ...]) -> None:
    assert read_question(question, TYPES) == Reading(names, parts=tuple(Reading((name,)) for name in names))


@pytest.mark.parametrize(("question", "said", "kept"), [
    ("Is there an audience?", "No, no clarinet plays.", None), ("Is there an audience?", "Yes, there is drums.", None),
    ("Is there a harpsichord?", "Yes, there is a drum kit.", None), ("What key is it in?", "It is classical.", None),
    ("What key is it in?", "It is of the keyboard family.", None),
    ("Is there any drumming?", "Yes, drums keep the beat.", "Drums keep the beat."),
    ("Is there a bass drum?", "There is no bass.", None),
    ("What is the song about?", "The tempo is fast.", None), ("Whose is it?", "It would callI am not sure.", None),
    ("Which instruments are not there?", "The clip features drums.", None), ("What is missing?", "It is slow.", None),
    # What is stated holds, but not that the drums are a solo.
    ("Is there a drum solo?", "Yes, drums keep the beat.", "Drums keep the beat."),
    ("Is the bass too loud?", "No, there is no bass.", "There is no bass."),
    ("Is the bass too loud?", "No bass can be heard.", "No bass can be heard."),
    ("Is there a beat?", "Yes, there are drums.", None), ("Do fish sing?", "Yes, there is singing.", None),
    ("Quel est le genre ?", "It is electronic.", "It is electronic."), ("Is it catchy?", "Yes.", "Yes."),
    ("Is it too fast?", "It is fast.", "It is fast."), ("Why?", "I am not sure.", "I am not sure."),
    ("Can I dance to it?", "Yes, the drums are strong and drive it on.", "Yes, the drums are strong and drive it on."),
    ("Which film would it suit?", "It would suit a chase.", "It would suit a chase."),
])  # fmt: skip
def test_what_answers_another_question_is_not_said(question: str, said: str, kept: str | None) -> None:
    assert read_question(question, TYPES) is None
    assert keep_to_question(said, question, TYPES) == (kept or "I am not sure.")


@pytest.mark.parametrize("question", ["Which instruments play?", "What instruments can you hear?", "List instruments"])
def test_a_list_of_instruments_is_that_of_all_types_that_ask_for_one(question: str) -> None:
    reading = read_question(question, TYPES)
    assert reading is not None and {"drums", "piano", "guitar", "strings"} <= {*reading.names}
    assert not {"genre", "lead_instrument", "music", "classical"} & {*reading.names}
    assert read_question(question, {"drums": TYPES["drums"]}) is None  # of one alone it would be no list


KINDS = {
    "mood": QuestionType(
        ["What is the mood?"], {"sad": ["The mood is sad."], "gay": ["It is gay."], "calm": ["I find it calm."]},
        threshold=0.6,
    ),
    "drums": QuestionType(["Are there drums?"], {"drums": ["Yes, there are drums."], "no drums": ["No, no drums."]}),
    "harp": QuestionType(["Is there a harp?"], {"harp": ["Yes, a harp plays."], "no harp": ["No, there is no harp."]}),
    "flute": QuestionType(["Is there a flute?"], {"flute": ["Yes."], "no flute": ["No, there is no flute."]}),
}  # fmt: skip


def answer(sure: bool = True, **shares: float) -> dict[str, Any]:
    found = {name.replace("_", " "): share for name, share in shares.items()}
    return {"type": "choice", "probabilities": found, "sure": sure, "heard": [[0.0, 10.0]]}


@pytest.mark.parametrize(("wanted", "given", "text", "probability", "sure"), [
    (None, answer(sad=0.7, gay=0.2, calm=0.1), "The mood is sad.", 0.7, True),
    (None, answer(False, sad=0.4, gay=0.3, calm=0.3), "Not sure: The mood is sad?", 0.4, False),
    ("sad", answer(sad=0.7, gay=0.2, calm=0.1), "Yes, the mood is sad.", 0.7, True),
    ("sad", answer(False, sad=0.55, gay=0.3, calm=0.15), "Not sure: Yes, the mood is sad?", 0.55, False),
    ("sad", answer(sad=0.1, gay=0.2, calm=0.7), "No, I find it calm.", 0.7, True),
    # That it is not sad is sure, what it is instead is not: that is not said.
    ("sad", answer(False, sad=0.1, gay=0.5, calm=0.4), "No.", 0.9, True),
    ("sad", answer(False, sad=0.45, gay=0.4, calm=0.15), "Not sure: No?", 0.55, False),
])  # fmt: skip
def test_an_answer_states_what_its_probability_is_of(
    wanted: str | None, given: dict[str, Any], text: str, probability: float, sure: bool
) -> None:
    decided = state_reading(Reading(("mood",), wanted), {"mood": given}, KINDS)
    assert (decided["text"], decided["probability"], decided["sure"]) == (text, pytest.approx(probability), sure)
    assert decided["probabilities"] == given["probabilities"]


def test_the_parts_of_a_question_are_stated_one_after_another() -> None:
    answers = {
        "mood": answer(sad=0.7, gay=0.2, calm=0.1), "drums": answer(drums=0.9, no_drums=0.1),
        "harp": answer(False, harp=0.45, no_harp=0.55),
    }  # fmt: skip
    reading = Reading(("mood", "drums"), parts=(Reading(("mood",)), Reading(("drums",))))
    assert state_reading(reading, answers, KINDS) == {
        "text": "The mood is sad. There are drums.", "probability": 0.7, "sure": True,
        "probabilities": {"sad": 0.7, "drums": 0.9},
    }
    reading = Reading(("drums", "harp"), parts=(Reading(("drums",)), Reading(("harp",))))
    doubtful = state_reading(reading, answers, KINDS)
    assert doubtful["text"] == "There are drums. Not sure: There is no harp?"
    assert (doubtful["probability"], doubtful["sure"]) == (0.55, False)


def test_instruments_are_named_with_the_probability_of_the_least_likely() -> None:
    answers = {
        "drums": answer(drums=0.9, no_drums=0.1), "harp": answer(harp=0.6, no_harp=0.4),
        "flute": answer(flute=0.2, no_flute=0.8),
    }  # fmt: skip
    reading = Reading((*answers,))
    decided = state_reading(reading, answers, KINDS)
    assert (decided["text"], decided["probability"], decided["sure"]) == ("Drums and harp are heard.", 0.6, True)
    assert decided["probabilities"] == {"drums": 0.9, "harp": 0.6, "flute": 0.2}
    unsure = {name: one | {"sure": False} for name, one in answers.items()}
    assert state_reading(reading, unsure, KINDS)["text"] == "Not sure: Drums are heard?"
    silent = {name: one | {"reason": "no music"} for name, one in answers.items()}
    assert state_reading(reading, silent, KINDS)["text"].startswith("No music heard")

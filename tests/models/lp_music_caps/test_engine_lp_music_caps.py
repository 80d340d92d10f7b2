"""Tests that questions may come and go at any time without a change to any answer."""

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps import engine_lp_music_caps as stream_module
from descant.models.lp_music_caps.engine_lp_music_caps import AnswerEngine, QuestionStream
from descant.models.lp_music_caps.generation_settings_lp_music_caps import read_settings
from descant.models.lp_music_caps.packed_models_lp_music_caps import packed_model


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("slots", [1, 3, 50])
def test_answers_do_not_depend_on_the_number_of_slots(taught: AnsweringModel, num_beams: int, slots: int) -> None:
    batch = taught.ask(40, seed=8000)
    expected = taught.model.generate(**batch, num_beams=num_beams, fast=False)
    outputs, mask = taught.model.encode(**batch)
    rows = [(i, states[: mask[i].sum()]) for i, states in enumerate(outputs.last_hidden_state)]
    settings = read_settings(taught.model, None, {"num_beams": num_beams})
    engine = AnswerEngine(packed_model(taught.model).decoder(), settings, slots)
    answers = {question: tokens for question, tokens, _ in engine.run(iter(rows))}
    assert sorted(answers) == list(range(40))
    for question, tokens in answers.items():
        assert tokens == expected[question, : len(tokens)].tolist()
        assert (expected[question, len(tokens) :] == 1).all()


def test_a_short_answer_does_not_wait_for_a_long_one(taught: AnsweringModel) -> None:
    batch = taught.ask(40, seed=8000)
    outputs, mask = taught.model.encode(**batch)
    lengths = taught.model.generate(**batch, num_beams=1).ne(1).sum(dim=1)
    longest, shortest = int(lengths.argmax()), int(lengths.argmin())
    rows = [(i, outputs.last_hidden_state[i, : mask[i].sum()]) for i in (longest, shortest, shortest)]
    settings = read_settings(taught.model, None, {"num_beams": 1})
    engine = AnswerEngine(packed_model(taught.model).decoder(), settings, slots=2)
    waiting, done = iter(rows), []
    for question, _, _ in engine.run(waiting):
        done.append(question)
    assert done == [shortest, shortest, longest]


def test_an_empty_stream_gives_no_answers(taught: AnsweringModel) -> None:
    engine = AnswerEngine(packed_model(taught.model).decoder(), read_settings(taught.model, None, {}), slots=2)
    assert list(engine.run(iter([]))) == []


def test_scores_are_those_of_transformers(taught: AnsweringModel) -> None:
    batch = taught.ask(20, seed=9000)
    outputs, mask = taught.model.encode(**batch)
    rows = ((i, states[: mask[i].sum()]) for i, states in enumerate(outputs.last_hidden_state))
    engine = AnswerEngine(packed_model(taught.model).decoder(), read_settings(taught.model, None, {}), slots=8)
    scores = {question: score for question, _, score in engine.run(rows)}
    result = taught.model.generate(**batch, return_dict_in_generate=True, output_scores=True)
    actual = torch.tensor([scores[i] for i in range(20)])
    torch.testing.assert_close(actual, result.sequences_scores, atol=1e-5, rtol=1e-4)


FEATURES = torch.randn(6, 128, 1001, generator=torch.Generator().manual_seed(0))


def make_pairs(count: int) -> list:
    """Questions of different lengths, about six clips in turn."""
    return [(f"clip{i % 6}", FEATURES[i % 6].numpy(), [0, *range(5, 6 + i % 9), 2]) for i in range(count)]


def test_states_are_those_of_each_question_alone(taught: AnsweringModel) -> None:
    pairs = [*make_pairs(20), ("clip0", FEATURES[0], None)]
    for position, states in QuestionStream(taught.model, pairs, ahead=8):
        ids = pairs[position][2]
        prompt = None if ids is None else torch.tensor([ids])
        alone, _ = taught.model.encode(torch.as_tensor(pairs[position][1])[None], prompt)
        torch.testing.assert_close(states, alone.last_hidden_state[0], atol=1e-4, rtol=1e-4)


def test_a_clip_goes_through_the_convolutions_once(taught: AnsweringModel) -> None:
    clips = []
    hook = taught.model.audio_encoder.register_forward_hook(lambda module, args, out: clips.append(len(args[0])))
    assert len(list(QuestionStream(taught.model, make_pairs(60), ahead=16))) == 60
    hook.remove()
    assert sum(clips) == 6


def test_few_clips_are_remembered(taught: AnsweringModel, monkeypatch) -> None:
    monkeypatch.setattr(stream_module, "CLIPS_KEPT", 2)
    stream = QuestionStream(taught.model, make_pairs(30), ahead=6)
    assert len(list(stream)) == 30
    assert len(stream.clips) == 2


def test_no_more_is_read_than_the_way_ahead(taught: AnsweringModel) -> None:
    read = []
    stream = iter(QuestionStream(taught.model, (read.append(p) or p for p in make_pairs(60)), ahead=10))
    next(stream)
    assert len(read) == 10

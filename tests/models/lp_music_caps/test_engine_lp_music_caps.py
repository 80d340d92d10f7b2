"""Tests that questions may come and go at any time, also over recorded steps, without a change to any answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from answering_model import AnsweringModel

from descant.models.lp_music_caps import generation_lp_music_caps
from descant.models.lp_music_caps.engine_lp_music_caps import (
    AnswerEngine,
    RecordedStep,
    StaticEngine,
    packed_model,
    round_up,
)
from descant.models.lp_music_caps.generation_lp_music_caps import QuestionStream, strip_padding
from descant.models.lp_music_caps.search_lp_music_caps import read_settings


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
    monkeypatch.setattr(generation_lp_music_caps, "CLIPS_KEPT", 2)
    stream = QuestionStream(taught.model, make_pairs(30), ahead=6)
    assert len(list(stream)) == 30
    assert len(stream.clips) == 2


def test_no_more_is_read_than_the_way_ahead(taught: AnsweringModel) -> None:
    read = []
    stream = iter(QuestionStream(taught.model, (read.append(p) or p for p in make_pairs(60)), ahead=10))
    next(stream)
    assert len(read) == 10


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Stub:
    """Stands in for CUDA's graphs: what is recorded is not done then, but in each replay."""

    def __init__(self, state: torch.Tensor, replay: Callable[[], None], fails: bool) -> None:
        self.state, self.replay, self.fails = state, replay, fails

    @contextmanager
    def record(self, graph: "Stub", **how) -> Iterator[None]:
        before = self.state.clone()
        yield
        self.state.copy_(before)
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")


def record(
    monkeypatch: pytest.MonkeyPatch, state: torch.Tensor, step: Callable, replay: Callable, fails: bool = False
) -> RecordedStep:
    stub = Stub(state, replay, fails)
    monkeypatch.setattr("torch.cuda.CUDAGraph", lambda: stub)
    monkeypatch.setattr("torch.cuda.graph", stub.record)
    monkeypatch.setattr("torch.cuda.stream", nullcontext)
    monkeypatch.setattr("torch.cuda.current_stream", lambda: None)
    monkeypatch.setattr(f"{RecordedStep.__module__}.take_aside", lambda step, stream: step())
    return RecordedStep(step, [state], stream=None)


def test_a_step_is_taken_once_by_recording_and_once_by_each_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(1))
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], True)
    recorded.graph.replay()
    assert state.tolist() == [2, 2, 2]


@pytest.mark.parametrize("added", [0, 5])
def test_a_recording_that_does_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch, added: int) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(added))
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], False)


def test_a_step_that_cannot_be_recorded_is_taken_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.zeros(3)
    recorded = record(monkeypatch, state, lambda: state.add_(1), replay=lambda: state.add_(1), fails=True)
    assert (state.tolist(), recorded.faithful) == ([1, 1, 1], False)


@needs_gpu
@pytest.mark.parametrize(
    "settings", [{}, {"num_beams": 1}, {"num_beams": 10}, {"num_beams": 1, "do_sample": True, "top_p": 0.9}], ids=str
)
def test_a_gpu_gives_the_tokens_of_transformers(taught: AnsweringModel, settings: dict) -> None:
    model = taught.model.to("cuda")
    try:
        batch = {name: value.to("cuda") for name, value in taught.ask(100, seed=2100).items()}
        torch.manual_seed(0)
        expected = model.generate(**batch, **settings, fast=False)
        for _ in range(2):  # the second time from recordings
            torch.manual_seed(0)
            assert torch.equal(model.generate(**batch, **settings), expected)
        if "do_sample" not in settings:
            _, engine = packed_model(model).idle
            assert engine.records and engine.recorded
    finally:
        model.to("cpu")


PLAIN = {"no_repeat_ngram_size": 0, "early_stopping": False, "forced_bos_token_id": None}


def ask(taught: AnsweringModel, count: int, seed: int) -> tuple[dict, list[tuple[int, torch.Tensor]]]:
    """A batch of questions, and their encoder states one by one."""
    batch = taught.ask(count, seed)
    outputs, mask = taught.model.encode(**batch)
    return batch, [(row, states[: mask[row].sum()]) for row, states in enumerate(outputs.last_hidden_state)]


def make_engine(taught: AnsweringModel, settings: dict, slots: int, **more) -> StaticEngine:
    decoder = packed_model(taught.model).decoder()
    return StaticEngine(decoder, read_settings(taught.model, None, settings), slots, **more)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 1},
        {"num_beams": 10},
        PLAIN,
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0, "max_length": 40},
        {"length_penalty": -1.0, "early_stopping": False},
        {"repetition_penalty": 0.8, "no_repeat_ngram_size": 2, "num_beams": 3},
        {"min_length": 20, "max_length": 25},
        {"max_length": 4},
        {"max_length": 12, "forced_eos_token_id": None},
        {"eos_token_id": [2, 70, 71, 72]},
    ],
    ids=str,
)
def test_every_setting_gives_the_tokens_of_transformers(taught: AnsweringModel, settings: dict) -> None:
    batch, rows = ask(taught, 20, seed=2500)
    expected = taught.model.generate(**batch, **settings, fast=False)
    answers = {question: tokens for question, tokens, _ in make_engine(taught, settings, slots=6).run(iter(rows))}
    assert [answers[row] for row in range(20)] == [strip_padding(row, 1) for row in expected.tolist()]


def test_an_engine_serves_again_and_widens_for_a_longer_question(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 12, seed=2600)
    engine = make_engine(taught, {}, slots=4)
    first = sorted(engine.run(iter(rows)))
    long = torch.randn(engine.cache.cross_mask.shape[2] + 7, 32)
    alone = list(make_engine(taught, {}, slots=1).run(iter([(99, long)])))
    again = sorted(engine.run(iter([*rows[:5], (99, long), *rows[5:]])))
    assert [tokens for _, tokens, _ in again] == [tokens for _, tokens, _ in [*first, *alone]]


def test_an_engine_whose_answers_are_no_longer_wanted_is_free_again(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 12, seed=2600)
    engine = make_engine(taught, {}, slots=4)
    expected = sorted(engine.run(iter(rows)))
    stream = engine.run(iter(rows))
    next(stream)
    assert engine.in_use.locked()
    stream.close()
    assert not engine.in_use.locked()
    assert sorted(engine.run(iter(rows))) == expected


def test_an_engine_serves_in_inference_mode_and_out_of_it(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 4, seed=2650)
    packed = packed_model(taught.model)
    settings = read_settings(taught.model, None, {})
    with torch.inference_mode():
        engine = packed._static_engine(settings, 4, None)
        first = sorted(engine.run(iter(rows)))
    assert packed._static_engine(settings, 3, None) is engine
    assert sorted(engine.run(iter(rows))) == first


def test_a_question_that_breaks_the_arithmetic_leaves_nothing_behind(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 3, seed=2660)
    engine = make_engine(taught, {"max_length": 8}, slots=2)
    expected = sorted(engine.run(iter(rows)))
    list(engine.run(iter([(0, torch.full((9, 32), float("nan"))), (1, torch.full((9, 32), float("inf")))])))
    assert sorted(engine.run(iter(rows))) == expected


def test_a_slot_without_a_question_brings_no_nan_into_the_memory(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 1, seed=2700)
    engine = make_engine(taught, {}, slots=4)
    assert engine._open(0, iter(rows))
    for _ in range(engine.settings.max_length + 3):  # past the end of every answer
        engine._advance(active=4)
    assert engine.cache.values.isfinite().all() and engine.cache.keys.isfinite().all()


def test_sampled_answers_are_those_of_transformers(taught: AnsweringModel) -> None:
    batch, rows = ask(taught, 9, seed=2800)
    settings = {"num_beams": 1, "do_sample": True, "top_p": 0.9}
    torch.manual_seed(3)
    expected = taught.model.generate(**batch, **settings, fast=False)
    torch.manual_seed(3)
    answers = {question: tokens for question, tokens, _ in make_engine(taught, settings, slots=9).run(iter(rows))}
    assert [answers[row] for row in range(9)] == [strip_padding(row, 1) for row in expected.tolist()]


def test_tokens_are_told_as_they_are_chosen(taught: AnsweringModel) -> None:
    _, rows = ask(taught, 1, seed=2900)
    told = []
    engine = make_engine(taught, {"num_beams": 1}, slots=1, on_token=lambda tokens: told.extend(tokens.tolist()))
    [(_, tokens, _)] = engine.run(iter(rows))
    assert tokens[1:] == told


def test_shapes_are_few() -> None:
    assert {round_up(number, 1) for number in range(1, 33)} == {1, 2, 4, 8, 16, 32}
    assert [round_up(number, 32) for number in (1, 32, 33, 127)] == [32, 32, 64, 128]

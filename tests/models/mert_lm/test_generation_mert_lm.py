"""Tests of answering: in batches and streams as alone, each clip encoded and read once, prefixes read once."""

import shutil

import numpy as np
import pytest
import torch
from tiny_mert_lm import QUESTIONS, join_tiny
from transformers import DynamicCache, GenerationConfig
from transformers.generation import BaseStreamer

from descant.models.mert_lm import generation_mert_lm
from descant.models.mert_lm.generation_mert_lm import PrefixCache, as_tensor

QUESTIONS_OF_A_CLIP = [*QUESTIONS, "Is it slow?", "Which instruments?"]


def build_pairs(joined, waveforms: list[np.ndarray]) -> list[tuple]:
    model, processor = joined
    features = processor(audio=waveforms, sampling_rate=24_000, return_tensors="pt")["input_features"]
    return [
        (clip, features[clip], processor.prompt_ids(question))
        for clip in range(len(waveforms)) for question in QUESTIONS_OF_A_CLIP
    ]  # fmt: skip


def answer_alone(joined, pair: tuple, **settings: object) -> list[int]:
    """Everything computed anew for one question, through transformers' own loop."""
    model, _ = joined
    prompt = torch.tensor([pair[2]])
    (tokens,) = model.generate(input_features=pair[1][None], prompt_input_ids=prompt, **settings).tolist()
    return tokens


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"repetition_penalty": 1.5}], ids=str)
def test_a_stream_is_answered_as_each_question_alone(joined, waveforms, settings: dict) -> None:
    joined[0].double()  # sums in another order then never turn one likeliest token into another
    pairs = build_pairs(joined, waveforms)
    found = {position: tokens for position, tokens, _ in joined[0].answer_many(pairs, batch_size=4, **settings)}
    assert found == {position: answer_alone(joined, pair, **settings) for position, pair in enumerate(pairs)}


def test_a_language_model_s_own_settings_change_no_answer(parts, waveforms, tmp_path) -> None:
    plain = join_tiny(parts)
    pairs = build_pairs(plain, waveforms)
    chatty = tmp_path / "chatty"
    shutil.copytree(parts[1], chatty)
    GenerationConfig(repetition_penalty=1.9, do_sample=True, temperature=5.0, top_k=3).save_pretrained(chatty)
    joined = join_tiny((parts[0], str(chatty)))
    for model, _ in (plain, joined):
        model.double()
    found = {position: tokens for position, tokens, _ in joined[0].answer_many(pairs, batch_size=4)}
    assert found == {position: answer_alone(joined, pair) for position, pair in enumerate(pairs)}
    assert found == {position: answer_alone(plain, pair) for position, pair in enumerate(pairs)}


def test_answers_end_at_the_end_of_the_turn_and_scores_are_of_their_tokens(joined, waveforms) -> None:
    model, processor = joined
    pairs = build_pairs(joined, waveforms)
    plain = {position: tokens for position, tokens, _ in model.answer_many(pairs)}
    end = plain[0][2]  # any token that is written
    ends = [processor.tokenizer.eos_token_id, end]
    ended = {position: (tokens, score) for position, tokens, score in model.answer_many(pairs, eos_token_id=ends)}
    for position, tokens in plain.items():
        expected = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        assert ended[position][0] == expected
    slow = {p: score for p, _, score in model.answer_many(pairs, eos_token_id=ends, repetition_penalty=1.0 + 1e-9)}
    for position, (_, score) in ended.items():
        assert score == pytest.approx(slow[position], abs=1e-3)


def test_a_clip_is_encoded_once_and_what_stands_before_it_is_read_once(joined, waveforms, monkeypatch) -> None:
    model, _ = joined
    encoded, lengths = [], []
    encode, read = model.encode_audio, model.read_on
    monkeypatch.setattr(model, "encode_audio", lambda features: encoded.append(len(features)) or encode(features))
    monkeypatch.setattr(
        model, "read_on", lambda embeds, *rest: lengths.append(tuple(embeds.shape[:2])) or read(embeds, *rest)
    )
    list(model.answer_many(build_pairs(joined, waveforms), batch_size=4))
    assert sum(encoded) == len(waveforms)
    opening = build_pairs(joined, waveforms)[0][2].index(model.config.audio_token_id)
    assert lengths.count((1, opening)) == 1
    assert sum(rows for rows, length in lengths if length == model.config.audio_positions) == len(waveforms)


def test_pairs_are_read_only_as_far_as_they_are_needed(joined, waveforms) -> None:
    taken = []

    def stream():
        for number in range(1000):
            taken.append(number)
            yield build_pairs(joined, waveforms[:1])[0]

    next(joined[0].answer_many(stream(), batch_size=2, max_new_tokens=1))
    assert len(taken) == 4


def test_a_batch_of_the_processor_is_answered_in_its_order(joined, waveforms) -> None:
    model, processor = joined
    inputs = processor(audio=waveforms, text=QUESTIONS, sampling_rate=24_000, return_tensors="pt")
    together = model.generate(**inputs).tolist()
    for row, question in enumerate(QUESTIONS):
        alone = processor(audio=[waveforms[row]], text=[question], sampling_rate=24_000, return_tensors="pt")
        assert model.generate(**alone)[0].tolist() == together[row]


def test_tokens_stream_as_they_are_written(joined, waveforms) -> None:
    class Collector(BaseStreamer):
        def __init__(self) -> None:
            self.tokens, self.ended = [], False

        def put(self, value: torch.Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            self.ended = True

    model, processor = joined
    inputs = processor(audio=waveforms[:1], text=["Fast?"], sampling_rate=24_000, return_tensors="pt")
    collector = Collector()
    assert model.generate(**inputs, streamer=collector)[0].tolist() == collector.tokens
    assert collector.ended


def test_max_length_counts_the_answer_alone(joined, waveforms) -> None:
    model, processor = joined
    inputs = processor(audio=waveforms[:1], text=["Fast?"], sampling_rate=24_000, return_tensors="pt")
    assert model.generate(**inputs, max_length=3).shape[1] == 3
    assert model.generate(**inputs, generation_config=GenerationConfig(max_new_tokens=2)).shape[1] == 2
    assert model.generate(**inputs, generation_config=GenerationConfig(max_length=3)).shape[1] == 3


def test_settings_that_leave_length_and_end_open_take_those_of_the_model(joined, waveforms) -> None:
    model, processor = joined
    inputs = processor(audio=waveforms[:1], text=["Fast?"], sampling_rate=24_000, return_tensors="pt")
    pair = 0, inputs["input_features"][0], inputs["prompt_input_ids"][0].tolist()
    for open_settings, longest in ((GenerationConfig(), 8), (GenerationConfig(max_length=3), 3)):
        (answer,) = model.answer_many([pair], generation_config=open_settings)
        assert answer[1] == model.generate(**inputs)[0, :longest].tolist()


def test_unknown_settings_and_missing_prompts_are_refused(joined, waveforms) -> None:
    model, processor = joined
    inputs = processor(audio=waveforms[:1], text=["Fast?"], sampling_rate=24_000, return_tensors="pt")
    with pytest.raises(ValueError, match="knows no beams"):
        model.generate(**inputs, beams=3)
    with pytest.raises(ValueError, match="prompts are missing"):
        model.generate(input_features=inputs["input_features"])
    with pytest.raises(ValueError, match="no place for the audio"):
        list(model.answer_many([(0, inputs["input_features"][0], [1, 2, 3])]))


def test_a_prefix_is_what_reading_it_whole_gives(joined) -> None:
    model, processor = joined
    prompt = processor.prompt_ids("Fast?")
    first = prompt.index(model.config.audio_token_id)
    states = torch.randn(1, 4, 32)
    with torch.no_grad():
        cache, length = PrefixCache(model).read(["a", "a"], [states, states], tuple(prompt[:first]))
        head = torch.tensor([prompt[:length]])
        embeds = model.embed_prompts(head, torch.ones_like(head), model.get_audio_features(states[None]))
        whole = DynamicCache()
        model.read_on(embeds, whole)
    assert length == first + 4 == cache.get_seq_length()
    expected = as_tensor(whole).expand(-1, -1, 2, -1, -1, -1)
    torch.testing.assert_close(as_tensor(cache), expected, atol=1e-4, rtol=1e-4)


def test_the_clips_asked_about_longest_ago_are_forgotten(joined, monkeypatch) -> None:
    monkeypatch.setattr(generation_mert_lm, "CLIPS_KEPT", 2)
    model, _ = joined
    prefixes = PrefixCache(model)
    with torch.no_grad():
        for key in "abcb":
            prefixes.read([key], [torch.randn(1, 4, 32)], (1, 2))
    assert [key for _, key in prefixes.clips] == ["c", "b"]

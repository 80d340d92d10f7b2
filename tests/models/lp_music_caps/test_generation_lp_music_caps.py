"""Tests of answering on a small seeded model: batches, settings, streams of pairs."""

from threading import Thread

import numpy as np
import pytest
import torch
from transformers import TextIteratorStreamer
from transformers.modeling_outputs import BaseModelOutput

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor
from descant.models.lp_music_caps.generation_lp_music_caps import strip_padding


@pytest.fixture
def batch(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray], questions: list[str]) -> dict:
    audio = [waveforms[row % 3] for row in range(len(questions))]
    return dict(processor(audio=audio, text=questions, sampling_rate=16000, return_tensors="pt"))


@pytest.fixture
def pairs(batch: dict) -> list:
    """The batch as a stream: (clip key, features, prompt ids)."""
    lengths = batch["prompt_attention_mask"].sum(dim=1).tolist()
    ids = batch["prompt_input_ids"].tolist()
    return [(row % 3, batch["input_features"][row], ids[row][: lengths[row]]) for row in range(len(ids))]


def answer_alone(model: LPMusicCapsForConditionalGeneration, batch: dict, row: int, **settings) -> list[int]:
    length = batch["prompt_attention_mask"][row].sum()
    ids = batch["prompt_input_ids"][[row], :length]
    features = batch["input_features"][[row]]
    tokens = model.generate(input_features=features, prompt_input_ids=ids, **settings)
    return strip_padding(tokens[0].tolist(), 1)


@pytest.mark.parametrize("num_beams", [1, 5])
def test_a_batch_of_questions_gives_each_the_tokens_it_gets_alone(
    model: LPMusicCapsForConditionalGeneration, batch: dict, num_beams: int
) -> None:
    settings = {"num_beams": num_beams, "max_length": 16}
    together = [strip_padding(row, 1) for row in model.generate(**batch, **settings).tolist()]
    assert len(together) >= 20
    assert together == [answer_alone(model, batch, row, **settings) for row in range(len(together))]


def test_settings_come_from_generation_config_unless_given(
    model: LPMusicCapsForConditionalGeneration, batch: dict
) -> None:
    model.generation_config.max_length = 7
    assert model.generate(**batch).shape == (24, 7)
    assert model.generate(**batch, max_length=5, num_beams=2).shape == (24, 5)


def test_clip_index_is_expanded_with_the_beams(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    shared = {**batch, "input_features": batch["input_features"][:3], "clip_index": torch.arange(24) % 3}
    expected = model.generate(**batch, max_length=10)
    assert torch.equal(model.generate(**shared, max_length=10), expected)
    embeds = model.get_audio_features(shared.pop("input_features"))
    assert torch.equal(model.generate(**shared, audio_embeds=embeds, max_length=10), expected)


def test_a_training_batch_can_be_passed_on(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    labels = torch.zeros(24, 3, dtype=torch.long)
    assert torch.equal(model.generate(**batch, labels=labels, max_length=6), model.generate(**batch, max_length=6))


def test_a_misspelled_setting_is_refused(model: LPMusicCapsForConditionalGeneration, batch: dict) -> None:
    with pytest.raises(ValueError, match="num_beam"):
        model.generate(**batch, num_beam=3)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_stream_gets_the_answers_of_a_batch(
    model: LPMusicCapsForConditionalGeneration, batch: dict, pairs: list, num_beams: int
) -> None:
    settings = {"num_beams": num_beams, "max_length": 12}
    answers = {index: tokens for index, tokens, _ in model.answer_many(iter(pairs), batch_size=5, **settings)}
    expected = [strip_padding(row, 1) for row in model.generate(**batch, **settings).tolist()]
    assert [answers[row] for row in range(24)] == expected


def test_the_score_is_the_length_normalised_log_probability(
    model: LPMusicCapsForConditionalGeneration, batch: dict, pairs: list
) -> None:
    beams = {"num_beams": 3, "max_length": 12}
    result = model.generate(**batch, **beams, return_dict_in_generate=True, output_scores=True)
    for index, _, score in model.answer_many(pairs, **beams):
        assert score == pytest.approx(result.sequences_scores[index].item(), abs=1e-5)
    for index, tokens, score in model.answer_many(pairs, num_beams=1, max_length=12):
        inputs = {name: value[[index]] for name, value in batch.items()}
        with torch.no_grad():
            logits = model(**inputs, decoder_input_ids=torch.tensor([tokens[:-1]])).logits[0]
        chosen = logits.log_softmax(-1).gather(1, torch.tensor(tokens[1:])[:, None])
        assert score == pytest.approx(chosen.mean().item(), abs=1e-5)


def test_a_stream_is_read_no_further_than_it_is_answered(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    read = []
    stream = model.answer_many((read.append(i) or pair for i, pair in enumerate(pairs)), batch_size=4, max_length=6)
    next(stream)
    assert len(read) <= 8


def test_a_stream_may_ask_for_captions_and_may_be_empty(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    key, features, _ = pairs[0]
    captions = list(model.answer_many([(key, features, None), (key, features, None)], max_length=6))
    expected = model.generate(input_features=features[None], max_length=6)[0].tolist()
    assert [tokens for _, tokens, _ in captions] == [expected, expected]
    assert list(model.answer_many([])) == []


def test_a_stream_that_the_fast_search_does_not_cover_is_answered_all_the_same(
    model: LPMusicCapsForConditionalGeneration, pairs: list
) -> None:
    settings = {"num_beams": 2, "max_length": 8}
    fast = sorted(model.answer_many(pairs, **settings))
    for index, tokens, score in model.answer_many(pairs, **settings, suppress_tokens=[]):
        assert tokens == fast[index][1]
        assert score == pytest.approx(fast[index][2], abs=1e-5)


def test_a_stream_can_be_sampled(model: LPMusicCapsForConditionalGeneration, pairs: list) -> None:
    settings = {"num_beams": 1, "do_sample": True, "top_p": 0.9, "max_length": 10, "batch_size": 7}
    streams = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        streams.append(sorted(model.answer_many(pairs, **settings)))
    assert [position for position, _, _ in streams[0]] == list(range(24))
    assert streams[0] == streams[1] != streams[2]


def test_positions_that_the_mask_leaves_out_are_not_heard(
    model: LPMusicCapsForConditionalGeneration, batch: dict
) -> None:
    outputs, mask = model.encode(**{name: value[:3] for name, value in batch.items()})
    expected = model.generate(encoder_outputs=outputs, attention_mask=mask, max_length=9)
    states = torch.nn.functional.pad(outputs.last_hidden_state, (0, 0, 4, 0), value=9.0)
    moved = BaseModelOutput(last_hidden_state=states)
    mask = torch.nn.functional.pad(mask, (4, 0))
    for fast in (True, False):
        assert torch.equal(
            model.generate(encoder_outputs=moved, attention_mask=mask, max_length=9, fast=fast), expected
        )


@pytest.mark.parametrize("settings", [{}, {"do_sample": True}], ids=str)
def test_tokens_stream_as_they_are_chosen(
    model: LPMusicCapsForConditionalGeneration,
    processor: LPMusicCapsProcessor,
    batch: dict,
    settings: dict,
) -> None:
    one = {name: value[:1] for name, value in batch.items()}
    streams = []
    for fast in (True, False):
        torch.manual_seed(0)
        streamer = TextIteratorStreamer(processor.tokenizer, skip_prompt=True, timeout=60)
        arguments = dict(one, num_beams=1, max_length=20, streamer=streamer, fast=fast, **settings)
        thread = Thread(target=model.generate, kwargs=arguments)
        thread.start()
        streams.append(list(streamer))
        thread.join()
    assert streams[0] == streams[1]
    assert len(streams[0]) > 1


def test_streaming_of_beams_is_refused_as_transformers_does(
    model: LPMusicCapsForConditionalGeneration, processor: LPMusicCapsProcessor, batch: dict
) -> None:
    one = {name: value[:1] for name, value in batch.items()}
    with pytest.raises(ValueError, match="streamer"):
        model.generate(**one, num_beams=3, streamer=TextIteratorStreamer(processor.tokenizer))

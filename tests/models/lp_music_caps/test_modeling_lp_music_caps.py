"""Tests of the model's mathematics on a small seeded model: packing, loss, gradients, saving."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.functional import cross_entropy
from transformers.trainer_pt_utils import LabelSmoother

from descant.models.lp_music_caps import (
    LPMusicCapsConfig,
    LPMusicCapsForConditionalGeneration,
    LPMusicCapsProcessor,
    modeling_lp_music_caps,
)
from descant.models.lp_music_caps.modeling_lp_music_caps import linear_cross_entropy

QUESTIONS = ["Is it fast or slow?", "What instruments are heard in the song?", "Is it slow?"]


@pytest.fixture
def inputs(processor: LPMusicCapsProcessor, waveforms: list[np.ndarray]) -> dict[str, torch.Tensor]:
    return dict(processor(audio=waveforms, text=QUESTIONS, sampling_rate=16000, return_tensors="pt"))


@pytest.fixture
def labels(processor: LPMusicCapsProcessor) -> torch.Tensor:
    answers = ["The song uses strings.", "A calm piano melody with a slow tempo.", "The tempo."]
    batch = processor.tokenizer(answers, padding=True, return_tensors="pt")
    return batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)


def test_sinusoids_are_whispers(model: LPMusicCapsForConditionalGeneration) -> None:
    expected = torch.empty(32, 32)
    for position in range(32):
        for channel in range(16):
            angle = position * math.exp(-channel * math.log(10000) / 15)
            expected[position, channel] = math.sin(angle)
            expected[position, 16 + channel] = math.cos(angle)
    torch.testing.assert_close(model.audio_encoder.sinusoids, expected, atol=1e-5, rtol=0)


def test_audio_features_have_one_row_per_position(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> None:
    assert model.get_audio_features(inputs["input_features"]).shape == (3, 32, 32)


def test_input_features_of_another_shape_are_refused(model: LPMusicCapsForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match=r"\(1, 80, 3000\).*\(clips, 128, 1001\)"):
        model.get_audio_features(torch.zeros(1, 80, 3000))


def test_a_question_is_encoded_alone_as_in_any_batch(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> None:
    together, mask = model.encode(**inputs)
    for row in range(3):
        length = inputs["prompt_attention_mask"][row].sum()
        alone, _ = model.encode(inputs["input_features"][[row]], inputs["prompt_input_ids"][[row], :length])
        assert mask[row].sum() == length + 32
        torch.testing.assert_close(
            together.last_hidden_state[row, : length + 32], alone.last_hidden_state[0], atol=1e-5, rtol=1e-5
        )


def test_padding_does_not_reach_the_decoder(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    longer = dict(inputs)
    longer["prompt_input_ids"] = torch.nn.functional.pad(inputs["prompt_input_ids"], (0, 9), value=7)
    longer["prompt_attention_mask"] = torch.nn.functional.pad(inputs["prompt_attention_mask"], (0, 9))
    torch.testing.assert_close(model(**longer, labels=labels).logits, model(**inputs, labels=labels).logits)


def test_padding_before_the_prompt_is_moved_to_the_end(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> None:
    ids, mask = inputs["prompt_input_ids"][:1], inputs["prompt_attention_mask"][:1]
    left_ids = torch.nn.functional.pad(ids, (3, 0))
    left_mask = torch.nn.functional.pad(mask, (3, 0))
    audio = model.get_audio_features(inputs["input_features"][:1])
    right, _ = model.pack_inputs(audio, ids, mask)
    left, _ = model.pack_inputs(audio, left_ids, left_mask)
    length = mask.sum() + 32
    assert torch.equal(left[:, :length], right[:, :length])


def test_loss_without_logits_is_that_of_the_logits(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    outputs = model(**inputs, labels=labels, label_smoothing=0.1)
    expected = LabelSmoother(0.1)(model(**inputs, labels=labels), labels)
    assert outputs.logits is None
    torch.testing.assert_close(outputs.loss, expected, atol=1e-6, rtol=0)
    halved = model(**inputs, labels=labels, label_smoothing=0.1, num_items_in_batch=2 * labels.ne(-100).sum()).loss
    torch.testing.assert_close(2 * halved, expected, atol=1e-6, rtol=0)


@pytest.mark.full
def test_a_compiled_model_trains_alike(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    batch = {**inputs, "labels": labels, "label_smoothing": 0.1}
    expected = model(**batch).loss
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    compiled = torch.compile(model, backend="eager")(**batch).loss
    compiled.backward()
    torch.testing.assert_close(compiled, expected)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=name)


def test_clip_index_runs_the_convolutions_once_a_clip(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> None:
    index = torch.tensor([1, 1, 0])
    shared = {**inputs, "input_features": inputs["input_features"][:2], "clip_index": index}
    repeated = {**inputs, "input_features": inputs["input_features"][index]}
    seen = []
    model.audio_encoder.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    torch.testing.assert_close(model.encode(**shared)[0][0], model.encode(**repeated)[0][0])
    assert seen == [2, 3]


def test_prompts_without_a_clip_each_are_refused(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(ValueError, match="3 prompts for 1 clips.*clip_index"):
        model.encode(**{**inputs, "input_features": inputs["input_features"][:1]})


def test_a_question_too_long_for_the_positions_is_refused(model: LPMusicCapsForConditionalGeneration) -> None:
    with pytest.raises(ValueError, match="332 positions, the model has 256"):
        model.encode(torch.zeros(1, 128, 1001), torch.zeros(1, 300, dtype=torch.long))


def test_loss_is_the_mean_over_answer_tokens(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    outputs = model(**inputs, labels=labels)
    expected = cross_entropy(outputs.logits[labels != -100], labels[labels != -100])
    torch.testing.assert_close(outputs.loss, expected)


def test_losses_of_parts_add_up_over_num_items_in_batch(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    count = (labels != -100).sum()
    parts = [
        model(**{k: v[[i]] for k, v in inputs.items()}, labels=labels[[i]], num_items_in_batch=count).loss
        for i in range(3)
    ]
    torch.testing.assert_close(sum(parts), model(**inputs, labels=labels).loss)


def test_smoothed_loss_through_decoder_inputs_is_that_through_labels(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    decoder_inputs = model.prepare_decoder_input_ids_from_labels(labels)
    outputs = model(**inputs, decoder_input_ids=decoder_inputs)
    log_probs = model(**inputs, labels=labels).logits.log_softmax(-1)[labels != -100]
    nll = -log_probs.gather(1, labels[labels != -100][:, None]).mean()
    expected = 0.9 * nll - 0.1 * log_probs.mean()
    torch.testing.assert_close(LabelSmoother(0.1)(outputs, labels), expected)


def test_one_step_moves_every_trainable_weight(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    model(**inputs, labels=labels).loss.backward()
    optimizer.step()
    unmoved = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    # A bias of the keys adds the same to every score of a query, so that the softmax takes it out again.
    assert {name for name in unmoved if not name.endswith("k_proj.bias")} == set()


def test_gradient_checkpointing_gives_the_same_gradients(
    model: LPMusicCapsForConditionalGeneration, inputs: dict[str, torch.Tensor], labels: torch.Tensor
) -> None:
    weight = model.audio_encoder.conv1.weight
    config_dropout(model, 0.0)
    model.train()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(**inputs, labels=labels).loss.backward()
        gradients.append(weight.grad.clone())
        model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(*gradients)


def config_dropout(model: LPMusicCapsForConditionalGeneration, rate: float) -> None:
    model.config.dropout = rate
    for module in model.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = rate


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(
    model: LPMusicCapsForConditionalGeneration, inputs: dict, labels: torch.Tensor, attention: str
) -> None:
    assert model.config._attn_implementation == "sdpa"
    expected = model(**inputs, labels=labels).logits
    model.set_attn_implementation(attention)
    torch.testing.assert_close(model(**inputs, labels=labels).logits, expected, atol=1e-5, rtol=1e-5)


def test_a_saved_model_loads_equal(
    model: LPMusicCapsForConditionalGeneration, inputs: dict, labels: torch.Tensor, tmp_path
) -> None:
    model.save_pretrained(tmp_path)
    loaded = LPMusicCapsForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.audio_encoder.sinusoids, model.audio_encoder.sinusoids)
    assert torch.equal(loaded(**inputs, labels=labels).logits, model(**inputs, labels=labels).logits)
    assert loaded.generation_config.to_dict() == model.generation_config.to_dict()
    assert loaded.lm_head.weight is loaded.model.encoder.embed_tokens.weight


def test_a_model_loads_and_answers_in_bfloat16(
    model: LPMusicCapsForConditionalGeneration, inputs: dict, labels: torch.Tensor, tmp_path
) -> None:
    model.save_pretrained(tmp_path)
    loaded = LPMusicCapsForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.generate(**inputs, max_length=5).shape == (3, 5)
    torch.testing.assert_close(
        loaded(**inputs, labels=labels).loss, model(**inputs, labels=labels).loss, rtol=0.02, atol=0
    )


def test_fresh_weights_keep_the_scale_of_the_signal(model: LPMusicCapsForConditionalGeneration) -> None:
    bound = 1 / math.sqrt(3 * 32)
    weight = model.audio_encoder.conv_stack[4].weight
    assert 0.9 * bound < weight.abs().max() <= bound


def test_sizes_of_a_fresh_model_are_those_of_bart_base() -> None:
    config = LPMusicCapsConfig()
    assert (config.d_model, config.encoder_layers, config.decoder_ffn_dim, config.vocab_size) == (768, 6, 3072, 50265)
    assert config.audio_positions == 32
    with torch.device("meta"):
        model = LPMusicCapsForConditionalGeneration(config)
    assert round(model.num_parameters() / 1e6, 1) == 148.6


POSITIONS, WIDTH, VOCABULARY = 23, 8, 37


def head() -> tuple[torch.Tensor, ...]:
    """States, weight and bias of a head, large enough for clear preferences, and labels with gaps."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, WIDTH, generator=generator)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator)
    bias = torch.randn(1, VOCABULARY, generator=generator)
    labels = torch.randint(0, VOCABULARY, (POSITIONS,), generator=generator)
    labels[::5] = -100
    return states.requires_grad_(), weight.requires_grad_(), bias, labels


def plain(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, smoothing: float):
    logits = functional.linear(states, weight) + bias
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")


@pytest.mark.parametrize("rows", [4, 512])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_the_logits(smoothing, rows, monkeypatch):
    monkeypatch.setattr(modeling_lp_music_caps, "ROWS_AT_ONCE", rows)
    ours, theirs = head(), head()
    mine = linear_cross_entropy(*ours, smoothing) / 18
    expected = plain(*theirs, smoothing) / 18
    mine.backward()
    expected.backward()
    torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-6)
    for got, wanted in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, atol=1e-6, rtol=1e-6)


def test_a_frozen_head_gets_no_gradient():
    states, weight, bias, labels = head()
    linear_cross_entropy(states, weight.detach(), bias, labels, 0.1).backward()
    expected = head()
    plain(*expected, 0.1).backward()
    torch.testing.assert_close(states.grad, expected[0].grad)


def test_positions_that_do_not_count_have_no_say():
    states, weight, bias, labels = head()
    counted = labels != -100
    whole = linear_cross_entropy(states, weight, bias, labels, 0.1)
    assert whole == linear_cross_entropy(states[counted], weight, bias, labels[counted], 0.1)
    whole.backward()
    assert not states.grad[~counted].any()
    assert states.grad[counted].all()


def test_a_batch_without_a_label_costs_nothing():
    states, weight, bias, labels = head()
    loss = linear_cross_entropy(states, weight, bias, torch.full_like(labels, -100), 0.1)
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()


def test_under_autocast_the_loss_is_near_float32_s():
    states, weight, bias, labels = head()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(states, weight, bias, labels, 0.1)
    loss.backward()
    expected = head()
    plain(*expected, 0.1).backward()
    assert loss.dtype == states.grad.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(loss, plain(*expected, 0.1), rtol=0.01, atol=0)
    torch.testing.assert_close(weight.grad, expected[1].grad, rtol=0.05, atol=0.05)


def test_a_second_pass_over_the_same_graph_is_refused():
    loss = linear_cross_entropy(*head(), 0.1)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()

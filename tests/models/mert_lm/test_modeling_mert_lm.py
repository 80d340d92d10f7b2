"""Tests of the model: targets, packing, frozen parts and their cached states, layer mixes and poolings, saving."""

from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_mert_lm import QUESTIONS, join_tiny, save_parts
from transformers import AutoModelForMultimodalLM

from descant.data.extraction import extract_features
from descant.data.features import FeatureStore
from descant.models.mert_lm.modeling_mert_lm import pack_rows, split_prompts, up_to_last

ANSWERS = ["a slow piano", "jazz rock with a loud guitar", "drums"]


def build_batch(processor, waveforms: list[np.ndarray], clips: tuple[int, ...] = (0, 1, 2)) -> dict[str, torch.Tensor]:
    """The rows of a training batch: one question a clip, or several about some."""
    labels = processor.answer_ids(ANSWERS)
    longest = max(map(len, labels))
    inputs = processor(audio=waveforms, text=QUESTIONS, sampling_rate=24_000, return_tensors="pt")
    heard = sorted(set(clips))
    return {
        **inputs,
        "input_features": inputs["input_features"][heard],
        "clip_index": torch.tensor([heard.index(clip) for clip in clips]),
        "labels": torch.tensor([row + [-100] * (longest - len(row)) for row in labels]),
    }


def test_the_targets_are_the_answer_and_its_end_each_predicted_from_the_token_before(joined, waveforms) -> None:
    model, processor = joined
    batch = build_batch(processor, waveforms)
    seen = {}

    def watch(module: torch.nn.Module, arguments: tuple, options: dict) -> None:
        seen["embeds"], seen["positions"] = options["inputs_embeds"], options["position_ids"]

    model.language_model.model.register_forward_pre_hook(watch, with_kwargs=True)
    logits = model(**batch).logits
    embedding = model.get_input_embeddings().weight
    for row, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        prompt, (target,) = processor.prompt_ids(question), processor.answer_ids([answer])
        targets = batch["labels"][row][batch["labels"][row] != -100].tolist()
        assert targets == target and targets[-1] == processor.tokenizer.eos_token_id
        # What is read at the positions of the logits: the prompt's last token, then the answer without its end.
        read = slice(len(prompt), len(prompt) + len(target))
        fed = [model.config.decoder_start_token_id, *target[:-1]]
        assert torch.equal(seen["embeds"][row, read], embedding[fed])
        assert seen["positions"][row, len(prompt)] == len(prompt)
    flat = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())
    assert torch.allclose(model(**batch).loss, flat)


def test_no_position_sees_its_own_target(joined, waveforms) -> None:
    model, processor = joined
    batch = build_batch(processor, waveforms)
    before = model(**batch).logits
    batch["labels"][0, 2] = processor.tokenizer.eos_token_id
    after = model(**batch).logits
    assert torch.equal(before[0, :3], after[0, :3]) and not torch.allclose(before[0, 3], after[0, 3])


def test_rows_of_a_clip_in_one_sequence_give_the_logits_of_each_alone(joined, waveforms) -> None:
    model, processor = joined
    clips = (0, 2, 0)
    batch = build_batch(processor, waveforms, clips)
    packed = model(**batch).logits
    alone = build_batch(processor, [waveforms[clip] for clip in clips])
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in alone.items() if name != "clip_index"}
        kept = batch["labels"][row] != -100
        torch.testing.assert_close(packed[row][kept], model(**one).logits[0][kept], atol=2e-4, rtol=1e-4)


def gradients(model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Of the summed cross entropy of all labels."""
    model.zero_grad()
    for batch in batches:
        logits, labels = model(**batch).logits, batch["labels"]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_rows_of_a_clip_in_one_sequence_give_the_gradients_of_each_alone(parts, waveforms) -> None:
    model, processor = join_tiny(parts, layer_mix="learned", projector="mlp")
    model.double().requires_grad_(True)
    clips = (0, 2, 0)
    packed = gradients(model, [build_batch(processor, waveforms, clips)])
    alone = build_batch(processor, [waveforms[clip] for clip in clips])
    del alone["clip_index"]
    expected = gradients(model, [{name: value[row : row + 1] for name, value in alone.items()} for row in range(3)])
    assert packed.keys() == expected.keys() >= {name for name, _ in model.named_parameters() if "projector" in name}
    for name, gradient in expected.items():
        torch.testing.assert_close(packed[name], gradient, atol=2e-5, rtol=1e-4)  # norms compute in single precision


def test_the_loss_without_logits_is_that_of_the_logits(joined, waveforms) -> None:
    model, processor = joined
    batch = build_batch(processor, waveforms, (0, 2, 0))
    logits, labels = model(**batch).logits.flatten(0, 1), batch["labels"].flatten()
    for smoothing in (0.0, 0.1):
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        found = model(**batch, label_smoothing=smoothing)
        assert found.logits is None
        torch.testing.assert_close(found.loss, expected)
    count = int((labels != -100).sum())
    torch.testing.assert_close(model(**batch, label_smoothing=0.1, num_items_in_batch=2 * count).loss * 2, found.loss)


def test_padding_on_either_side_of_a_prompt_changes_nothing(joined, waveforms) -> None:
    model, processor = joined
    batch = build_batch(processor, waveforms)
    order = batch["prompt_attention_mask"].argsort(dim=1, descending=True, stable=True)
    turned = {name: batch[name].gather(1, order) for name in ("prompt_input_ids", "prompt_attention_mask")}
    assert torch.equal(model(**batch).logits, model(**{**batch, **turned}).logits)


def test_the_loss_is_scaled_by_the_items_of_the_whole_batch(joined, waveforms) -> None:
    model, processor = joined
    batch = build_batch(processor, waveforms)
    count = int((batch["labels"] != -100).sum())
    assert torch.allclose(model(**batch, num_items_in_batch=4 * count).loss * 4, model(**batch).loss)


@pytest.mark.parametrize("layer_mix", ["last", "mean", "learned"])
@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_a_step_moves_the_projector_and_nothing_else(parts, waveforms, layer_mix: str, projector: str) -> None:
    model, processor = join_tiny(parts, layer_mix=layer_mix, projector=projector)
    model.train()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(**build_batch(processor, waveforms)).loss.backward()
    optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if name.startswith("projector.")}
    assert not model.audio_encoder.training


@pytest.mark.parametrize(("pooling", "positions"), [("none", 46), ("stride", 4), ("mean", 1)])
def test_states_are_mixed_then_pooled(parts, waveforms, pooling: str, positions: int) -> None:
    model, processor = join_tiny(parts, layer_mix="mean", pooling=pooling)
    features = processor(audio=waveforms, sampling_rate=24_000, return_tensors="pt")["input_features"]
    states = model.encode_audio(features)
    hidden = torch.stack(model.audio_encoder(features, output_hidden_states=True).hidden_states).mean(dim=0)
    assert states.shape == (3, 1, positions, 32) and model.config.audio_positions == positions
    first = {"none": hidden[:, 0], "stride": hidden[:, :15].mean(dim=1), "mean": hidden.mean(dim=1)}[pooling]
    torch.testing.assert_close(states[:, 0, 0], first)
    if pooling == "stride":  # the last frames are fewer
        torch.testing.assert_close(states[:, 0, -1], hidden[:, 45:].mean(dim=1))


@pytest.mark.parametrize("projector", ["linear", "mlp"])
def test_a_state_may_become_several_tokens_in_a_row(parts, waveforms, projector: str) -> None:
    model, processor = join_tiny(parts, pooling="stride", tokens_per_state=3, projector=projector)
    features = processor(audio=waveforms, sampling_rate=24_000, return_tensors="pt")["input_features"]
    states = model.encode_audio(features)
    embeds = model.get_audio_features(states)
    assert (states.shape, embeds.shape) == ((3, 1, 4, 32), (3, 12, 64))
    torch.testing.assert_close(model.get_audio_features(states[:, :, 1:2]), embeds[:, 3:6])
    model(**build_batch(processor, waveforms)).loss.backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.projector.parameters())


def test_cached_states_stand_for_the_audio(parts, waveforms) -> None:
    model, processor = join_tiny(parts, layer_mix="learned")
    features = processor(audio=waveforms, sampling_rate=24_000, return_tensors="pt")["input_features"]
    states = model.encode_audio(features)
    assert states.shape == (3, 3, 4, 32)
    assert torch.equal(model.get_audio_features(states), model.get_audio_features(features))


def test_a_folder_holds_what_was_trained_and_loads_onto_the_parts(joined, waveforms, tmp_path) -> None:
    model, processor = joined
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 20_000
    loaded, found = AutoModelForMultimodalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"]
    batch = build_batch(processor, waveforms)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_without_the_parts_names_a_folder_holds_everything(joined, waveforms, tmp_path) -> None:
    model, processor = joined
    model.config.audio_model_id = model.config.text_model_id = None
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMultimodalLM.from_pretrained(tmp_path)
    batch = build_batch(processor, waveforms)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_eight_pairs_are_learnt_by_heart_and_the_answers_end_by_themselves(parts) -> None:
    model, processor = join_tiny(parts, pooling="mean", projector="mlp")
    model.language_model.requires_grad_(True)  # random weights; a real language model can speak already
    answers = [f"{speed} {what}" for speed in ("slow", "loud") for what in ("piano", "drums", "jazz", "guitar")]
    torch.manual_seed(0)
    for weight in model.language_model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.05)
    states = torch.randn(8, 1, 1, 32)
    prompts = {name: torch.tensor(ids) for name, ids in processor.build_prompts(["What is it?"] * 8).items()}
    labels = processor.answer_ids(answers)
    longest = max(map(len, labels))
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(60):
        loss = model(input_features=states, labels=labels, **prompts).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    tokens = model.eval().generate(input_features=states, max_new_tokens=40, **prompts)
    assert tokens.shape[1] < 20
    assert processor.batch_decode(tokens, skip_special_tokens=True) == answers


def test_a_store_gives_back_what_the_encoder_computed(joined, waveforms, tmp_path: Path) -> None:
    model, processor = joined
    extractor = model.cached_features(processor.feature_extractor)
    store = FeatureStore(tmp_path, extractor.to_dict())
    clips = {"a": waveforms[0], "b": waveforms[1]}
    sent = ForkingPickler.loads(ForkingPickler.dumps(extractor))  # as to the processes of a pool
    assert extract_features(clips, sent, store).written == 2
    features = processor(audio=waveforms[:2], sampling_rate=24_000, return_tensors="pt")["input_features"]
    expected = model.encode_audio(features).numpy()
    for row, clip in enumerate("ab"):
        np.testing.assert_allclose(store.read(clip), expected[row], rtol=2e-3, atol=2e-3)


def test_the_key_names_encoder_mix_and_pooling(joined, parts, tmp_path: Path) -> None:
    def key(model, processor) -> Path:
        return FeatureStore(tmp_path, model.cached_features(processor.feature_extractor).to_dict()).folder

    first = key(*joined)
    assert first == key(*join_tiny(parts, projector="mlp", seed=5))  # what follows the encoder does not count
    others = [
        key(*join_tiny(parts, layer_mix="last")), key(*join_tiny(parts, layer_mix="learned")),
        key(*join_tiny(parts, pooling="mean")), key(*join_tiny(parts, pool_stride=5)),
        key(*join_tiny(save_parts(tmp_path / "others", seed=1))),
    ]  # fmt: skip
    assert len({first, *others}) == 6


def test_the_hash_is_of_every_weight(joined) -> None:
    model, processor = joined
    before = model.cached_features(processor.feature_extractor).to_dict()["encoder_sha256"]
    with torch.no_grad():
        model.audio_encoder.feature_projection.projection.bias[0] += 1e-3
    assert model.cached_features(processor.feature_extractor).to_dict()["encoder_sha256"] != before


AUDIO = 99


def test_prompts_are_cut_behind_the_audio_and_tails_end_together() -> None:
    ids = torch.tensor([[0, 0, 5, AUDIO, AUDIO, 7], [5, AUDIO, AUDIO, 6, 7, 8]])
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    split = split_prompts(ids, mask, AUDIO)
    assert split.head_ids.tolist() == [[5, AUDIO, AUDIO]] * 2
    assert split.tail_ids.tolist() == [[0, 0, 7], [6, 7, 8]]
    assert split.tail_mask.tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("row", [[5, 6, AUDIO, 7], [5, 6, 7, 8]])
def test_prompts_that_differ_before_the_audio_s_end_are_refused(row: list[int]) -> None:
    ids = torch.tensor([[5, AUDIO, 7, 7], row])
    with pytest.raises(ValueError, match="differ before the end of the audio"):
        split_prompts(ids, torch.ones_like(ids), AUDIO)


def test_a_tail_sees_the_head_and_itself_and_never_another_or_padding() -> None:
    heads, tails = torch.zeros(3, 2, 1), torch.zeros(3, 3, 1)
    tail_mask = torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 0]])
    packed = pack_rows(heads, tails, tail_mask, torch.tensor([0, 0, 1]), clips=2)
    assert (packed.mask[0, 0] == 0).int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]
    assert packed.positions[0].tolist() == [0, 1, 2, 3, 2, 3]
    assert (packed.mask[1, 0, :3] == 0).int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_rows_come_back_in_their_order_and_padding_takes_no_place() -> None:
    tails = torch.arange(1.0, 10).reshape(3, 3, 1)
    tail_mask = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 1, 1]])
    packed = pack_rows(torch.zeros(3, 1, 1), tails, tail_mask, torch.tensor([1, 0, 1]), clips=2)
    assert packed.embeds[..., 0].tolist() == [[0, 5, 6, 0, 0, 0], [0, 1, 2, 7, 8, 9]]
    kept = tail_mask.bool()
    assert torch.equal(packed.rows(packed.embeds)[kept], tails[kept])


def test_only_what_lies_behind_the_last_label_is_padding() -> None:
    counted = torch.tensor([[True, False, True, False], [False, False, False, False]])
    assert up_to_last(counted).tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]

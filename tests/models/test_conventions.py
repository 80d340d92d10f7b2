"""Tests of what transformers, peft and accelerate ask of a model: arguments, outputs, embeddings, export."""

import copy
import functools
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from answering_model import AnsweringModel, teach
from peft import LoraConfig, TaskType, get_peft_model
from tiny import build_tiny_model
from tiny_mert_lm import join_tiny, save_parts
from tiny_subgenre import build_tiny_subgenre, tracks
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    StoppingCriteriaList,
)
from transformers.generation import EosTokenCriteria
from transformers.processing_utils import ProcessorMixin

from descant.models.lp_music_caps import LPMusicCapsAudioModel
from descant.models.mert_lm import MertLMForConditionalGeneration
from descant.models.subgenre import SubgenreForSequenceClassification

QUESTIONS = ["What is the genre?", "Which instruments play?"]


@pytest.fixture(scope="module")
def taught() -> AnsweringModel:
    return teach(60)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def mert_lm(parts: tuple[str, str]) -> tuple[MertLMForConditionalGeneration, ProcessorMixin]:
    return join_tiny(parts)


def listen(processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """Two clips with a question about each."""
    rate = processor.feature_extractor.sampling_rate
    clips = [torch.sin(torch.arange(rate / 2) * pitch / rate) for pitch in (900.0, 2000.0)]
    return dict(processor(audio=clips, text=QUESTIONS, sampling_rate=rate, return_tensors="pt"))


LABELS = torch.tensor([[5, 6, 7], [7, 6, -100]])


# generate


class OnlyToken(LogitsProcessor):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, float("-inf")).index_fill_(1, torch.tensor([self.token]), 0.0)


OBJECTS = {
    "logits_processor": LogitsProcessorList([OnlyToken(7)]),
    "stopping_criteria": StoppingCriteriaList([EosTokenCriteria(torch.arange(1000))]),
    "prefix_allowed_tokens_fn": lambda row, ids: [7],
}


@pytest.mark.parametrize("name", OBJECTS)
def test_mert_lm_obeys_the_objects_that_generate_takes(mert_lm, name: str) -> None:
    model, processor = mert_lm
    inputs = listen(processor)
    plain = model.generate(**inputs).tolist()
    obeyed = model.generate(**inputs, **{name: OBJECTS[name]}).tolist()
    assert obeyed != plain
    assert all(len(row) == 1 for row in obeyed) if name == "stopping_criteria" else {*sum(obeyed, [])} == {7}
    mask = inputs["prompt_attention_mask"].bool()
    prompts = [ids[mask[row]].tolist() for row, ids in enumerate(inputs["prompt_input_ids"])]
    pairs = list(zip((0, 1), inputs["input_features"], prompts, strict=True))
    answers = {place: tokens for place, tokens, _ in model.answer_many(pairs, **{name: OBJECTS[name]})}
    assert [answers[0], answers[1]] == obeyed


def test_mert_lm_takes_generates_own_arguments_where_they_ask_for_nothing(mert_lm) -> None:
    model, processor = mert_lm
    inputs = listen(processor)
    nothing = {"synced_gpus": False, "assistant_model": None, "negative_prompt_ids": None, "logits_processor": None}
    assert torch.equal(model.generate(**inputs, **nothing), model.generate(**inputs))


def test_a_penalty_holds_beside_a_processor_of_ones_own(mert_lm) -> None:
    model, processor = mert_lm
    inputs = listen(processor)
    nothing = LogitsProcessorList([lambda input_ids, scores: scores])
    penalised = model.generate(**inputs, repetition_penalty=0.1)
    assert not torch.equal(penalised, model.generate(**inputs))
    assert torch.equal(model.generate(**inputs, repetition_penalty=0.1, logits_processor=nothing), penalised)


def test_an_assistant_is_refused_by_name(mert_lm, taught: AnsweringModel) -> None:
    model, processor = mert_lm
    with pytest.raises(ValueError, match="assistant_model"):
        model.generate(**listen(processor), assistant_model=model)
    with pytest.raises(ValueError, match="assistant_model"):
        taught.model.generate(**taught.ask(1, seed=1), assistant_model=taught.model, num_beams=1)


def test_a_stream_gives_one_answer_to_a_question(mert_lm, taught: AnsweringModel) -> None:
    for model in (mert_lm[0], taught.model):
        with pytest.raises(ValueError, match="num_return_sequences=2"):
            list(model.answer_many([], num_return_sequences=2, num_beams=2))


class Rows(torch.utils.data.Dataset):
    def __init__(self, batch: dict[str, torch.Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["labels"])

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {name: values[row] for name, values in self.batch.items()}


def test_a_trainer_predicts_with_generate(parts, tmp_path: Path) -> None:
    for model, processor in (join_tiny(parts), build_tiny_model()):
        arguments = Seq2SeqTrainingArguments(tmp_path, predict_with_generate=True, use_cpu=True, report_to="none")
        rows = Rows({**listen(processor), "labels": LABELS})
        predicted = Seq2SeqTrainer(model, arguments).predict(rows, max_length=6).predictions
        tokens = model.generate(**listen(processor), max_length=6)
        assert predicted[:, : tokens.shape[1]].tolist() == tokens.tolist()


def test_states_and_attentions_of_the_encoder_are_returned_with_the_answer(taught: AnsweringModel) -> None:
    model = copy.deepcopy(taught.model)
    model.set_attn_implementation("eager")
    asked = taught.ask(2, seed=3)
    flags = {"output_attentions": True, "output_hidden_states": True, "return_dict_in_generate": True}
    result = model.generate(**asked, **flags, num_beams=1, max_length=6)
    expected, mask = model.encode(**asked, output_attentions=True, output_hidden_states=True)
    for name in ("hidden_states", "attentions"):
        actual = getattr(result, f"encoder_{name}")
        assert len(actual) == len(expected[name]) > 0
        assert all(torch.equal(*pair) for pair in zip(actual, expected[name], strict=True))
    given = model.generate(encoder_outputs=expected, attention_mask=mask, **flags, num_beams=1, max_length=6)
    assert len(given.encoder_attentions) == len(expected.attentions)
    as_tuple = model.generate(encoder_outputs=expected.to_tuple(), attention_mask=mask, **flags, max_length=6)
    assert len(as_tuple.encoder_hidden_states) == len(expected.hidden_states)


# forward


def test_peft_tasks_call_forward_with_arguments_that_are_none(parts, tmp_path: Path) -> None:
    subgenre, words = build_tiny_subgenre()
    cases: list[tuple[PreTrainedModel, TaskType, dict[str, Any]]] = [
        (build_tiny_model()[0], TaskType.SEQ_2_SEQ_LM, {**listen(build_tiny_model()[1]), "labels": LABELS}),
        (join_tiny(parts)[0], TaskType.CAUSAL_LM, {**listen(join_tiny(parts)[1]), "labels": LABELS}),
        (subgenre, TaskType.SEQ_CLS, {**words(**tracks(), return_tensors="pt"), "labels": torch.eye(4, 8)}),
    ]
    for model, task, batch in cases:
        expected = model(**batch).loss
        config = LoraConfig(r=2, task_type=task, target_modules=type(model).lora_target_modules)
        adapted = get_peft_model(copy.deepcopy(model), config).eval()
        torch.testing.assert_close(adapted(**batch).loss, expected)


@pytest.mark.parametrize("name", ["input_ids", "inputs_embeds"])
def test_another_models_inputs_are_refused_by_name(parts, taught: AnsweringModel, name: str) -> None:
    for model in (taught.model, join_tiny(parts)[0], build_tiny_subgenre()[0]):
        inputs = {"modality_mask": torch.ones(1, 3)} if model.config.model_type == "subgenre" else {}
        with pytest.raises(ValueError, match=name):
            model(**inputs, **{name: torch.ones(1, 2)})


def test_decoder_embeddings_stand_for_decoder_ids(taught: AnsweringModel) -> None:
    model, asked, ids = taught.model, taught.ask(2, seed=3), torch.tensor([[2, 0, 70]] * 2)
    embeds = model.model.decoder.embed_tokens(ids)
    torch.testing.assert_close(
        model(**asked, decoder_inputs_embeds=embeds).logits, model(**asked, decoder_input_ids=ids).logits
    )


def test_every_model_returns_a_tuple_where_it_is_asked_for_one(parts, taught: AnsweringModel) -> None:
    model, processor = join_tiny(parts)
    subgenre, words = build_tiny_subgenre()
    audio = LPMusicCapsAudioModel(taught.model.config)
    cases = [
        (model, {**listen(processor), "labels": LABELS}),
        (subgenre, dict(words(**tracks(), return_tensors="pt"))),
        (taught.model, {**taught.ask(2, seed=3), "labels": LABELS}),
        (audio, {"input_features": torch.ones(1, 128, 1001)}),
    ]
    for model, batch in cases:
        expected, actual = model(**batch).to_tuple(), model(**batch, return_dict=False)
        assert isinstance(actual, tuple) and len(actual) == len(expected)
        assert torch.equal(actual[0], expected[0])


def test_mert_lm_returns_the_states_at_the_answer(mert_lm) -> None:
    model, processor = mert_lm
    batch = {**listen(processor), "labels": LABELS}
    expected = model(**batch).logits
    result = model(**batch, output_hidden_states=True, use_cache=False, output_attentions=False)
    assert len(result.hidden_states) == model.config.text_config.num_hidden_layers + 1
    torch.testing.assert_close(model.get_output_embeddings()(result.hidden_states[-1]), expected)
    del batch["labels"]
    batch["decoder_input_ids"] = torch.tensor([[5, 6, 7], [7, 6, 5]])
    logits = model(**batch).logits
    torch.testing.assert_close(model(**batch, logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(**batch, logits_to_keep=torch.tensor([0])).logits, logits[:, :1])
    with pytest.raises(ValueError, match="output_attentions"):
        model(**batch, output_attentions=True)


def test_a_configuration_may_ask_for_hidden_states(mert_lm) -> None:
    subgenre, words = build_tiny_subgenre()
    clips = {**listen(mert_lm[1]), "labels": LABELS}
    for model, batch in ((mert_lm[0], clips), (subgenre, dict(words(**tracks(), return_tensors="pt")))):
        assert model(**batch).hidden_states is None
        model.config.output_hidden_states = True
        assert model(**batch).hidden_states
        assert model(**batch, output_hidden_states=False).hidden_states is None


@torch.no_grad()
def test_subgenre_returns_the_states_and_attentions_of_the_text_encoder() -> None:
    model, processor = build_tiny_subgenre()
    model.set_attn_implementation("eager")
    inputs = dict(processor(**tracks(), return_tensors="pt"))
    windows, width = inputs["text_input_ids"].shape
    result = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert [state.shape[:2] for state in result.hidden_states] == [(windows, width)] * 2
    assert [len(attention) for attention in result.attentions] == [windows]
    assert model(**inputs).hidden_states is None
    deaf = {"modality_mask": inputs["modality_mask"], "audio_embeds": inputs["audio_embeds"]}
    assert model(**deaf, output_hidden_states=True).hidden_states is None


# embeddings, attention, checkpointing


def test_a_whole_mert_lms_vocabulary_is_resized_and_saved(mert_lm, tmp_path: Path) -> None:
    model, processor = mert_lm
    size, batch = model.config.text_config.vocab_size, {**listen(processor), "labels": LABELS}
    with pytest.raises(ValueError, match="so its embeddings are not saved"):
        model.resize_token_embeddings(size + 4)
    model.config.audio_model_id = model.config.text_model_id = None
    expected = model(**batch).logits
    model.resize_token_embeddings(size + 4)
    assert model.get_input_embeddings().weight.shape[0] == model.config.text_config.vocab_size == size + 4
    assert not model.get_input_embeddings().weight.requires_grad
    torch.testing.assert_close(model(**batch).logits[..., :size], expected)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(type(model).from_pretrained(tmp_path)(**batch).logits, model(**batch).logits)


def test_a_subgenre_models_vocabulary_is_resized_and_saved(tmp_path: Path) -> None:
    model, processor = build_tiny_subgenre()
    inputs = processor(**tracks(), return_tensors="pt")
    expected = model(**inputs).logits
    model.resize_token_embeddings(model.config.text_config.vocab_size + 4)
    assert len(model.get_input_embeddings().weight) == model.config.text_config.vocab_size
    torch.testing.assert_close(model(**inputs).logits, expected)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(type(model).from_pretrained(tmp_path)(**inputs).logits, expected)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_subgenre_attends_as_it_is_asked_to(tmp_path: Path, attention: str) -> None:
    model, processor = build_tiny_subgenre()
    model.save_pretrained(tmp_path)
    inputs = processor(**tracks(), return_tensors="pt")
    loaded = SubgenreForSequenceClassification.from_pretrained(tmp_path, attn_implementation=attention)
    assert loaded.text_encoder.config._attn_implementation == loaded.config._attn_implementation == attention
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits)


def test_mert_lm_refuses_an_attention_that_knows_no_dense_mask(parts, tmp_path: Path) -> None:
    join_tiny(parts)[0].save_pretrained(tmp_path)
    with pytest.raises((ValueError, ImportError)):
        MertLMForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="flash_attention_2")


def gradients(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    model(**batch).loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_checkpointed_activations_give_the_same_gradients(parts) -> None:
    subgenre, words = build_tiny_subgenre()
    model, processor = join_tiny(parts)
    cases = [
        (model, {**listen(processor), "labels": LABELS}),
        (subgenre, {**words(**tracks(), return_tensors="pt"), "labels": torch.eye(4, 8)}),
    ]
    for model, batch in cases:
        expected = gradients(model.train(), batch)
        assert expected
        model.gradient_checkpointing_enable()
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        actual = gradients(model, batch)
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name], gradient)


def test_layers_that_belong_together_are_named(mert_lm) -> None:
    assert {"LlamaDecoderLayer", "HubertEncoderLayer"} <= mert_lm[0]._no_split_modules


# offloading, recording, export


@pytest.mark.parametrize("offload", ["cpu", "disk"])
def test_offloaded_models_answer_as_those_that_are_not(taught, mert_lm, tmp_path: Path, offload: str) -> None:
    cases = (copy.deepcopy(taught.model), taught.ask(3, seed=4)), (mert_lm[0], listen(mert_lm[1]))
    for model, batch in cases:
        settings = {"max_length": 8}
        expected = model.generate(**batch, **settings)
        if offload == "cpu":
            accelerate.cpu_offload(model, torch.device("cpu"))
        else:
            accelerate.disk_offload(model, tmp_path / model.config.model_type, torch.device("cpu"))
        assert {str(weight.device) for weight in model.parameters()} == {"meta"}
        assert torch.equal(model.generate(**batch, **settings), expected)


def test_a_forward_that_is_watched_is_called_for_every_token(taught: AnsweringModel) -> None:
    model, asked = copy.deepcopy(taught.model), taught.ask(2, seed=3)
    calls, original = [], model.forward

    @functools.wraps(original)
    def watch(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return original(*args, **kwargs)

    expected = model.generate(**asked, max_length=6, num_beams=1)
    model.forward = watch
    assert torch.equal(model.generate(**asked, max_length=6, num_beams=1), expected)
    assert calls
    model.forward = original
    calls.clear()
    assert torch.equal(model.generate(**asked, max_length=6, num_beams=1), expected)
    assert not calls


def test_prompts_are_packed_as_a_stable_sort_packs_them(taught: AnsweringModel) -> None:
    torch.manual_seed(0)
    ids, mask, audio = torch.randint(3, 60, (6, 9)), torch.randint(0, 2, (6, 9)), torch.randn(6, 4, 32)
    embeds, packed = taught.model.pack_inputs(audio, ids, mask)
    whole = torch.cat([mask, torch.ones(6, 4, dtype=torch.long)], dim=1)
    order = whole.argsort(dim=1, descending=True, stable=True)
    unpacked = torch.cat([taught.model.model.encoder.embed_tokens(ids), audio], dim=1)
    assert torch.equal(packed, whole.gather(1, order))
    assert torch.equal(embeds, unpacked.gather(1, order[..., None].expand_as(unpacked)))


def test_a_model_with_a_question_exports_to_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exporters = pytest.importorskip("transformers.exporters")
    model, processor = build_tiny_model()
    batch = {**listen(processor), "decoder_input_ids": torch.tensor([[2, 0, 5], [2, 0, 7]])}
    exported = exporters.OnnxExporter().export(model, batch, config=exporters.OnnxConfig(dynamic=False))
    exported.save_pretrained(tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    logits = session.run(["logits"], {part.name: batch[part.name].numpy() for part in session.get_inputs()})[0]
    torch.testing.assert_close(torch.from_numpy(logits), model(**batch).logits, atol=1e-3, rtol=1e-3)


def test_the_steps_of_generate_can_be_taken_apart_for_export() -> None:
    utils = pytest.importorskip("transformers.exporters.utils")
    model, processor = build_tiny_model()
    model.generation_config.num_beams = 1
    stages = utils.decompose_prefill_decode(model, listen(processor))
    assert set(stages) == {"prefill", "decode"}
    for module, inputs in stages.values():
        assert module(**inputs).logits.shape[0] == 2

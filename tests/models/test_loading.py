"""Tests of loading: Auto classes know the models, frozen parts stay frozen, arguments are followed, adapters work."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_python import run_forked
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import save_tiny_model
from tiny_mert_lm import join_tiny, save_parts
from tiny_subgenre import build_tiny_subgenre
from transformers import (
    AutoModelForMultimodalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, modeling_lp_music_caps
from descant.models.mert_lm import MertLMForConditionalGeneration, loading_mert_lm
from descant.models.registration import MAPPINGS, MODELS
from descant.models.subgenre import SubgenreConfig, SubgenreForSequenceClassification, modeling_subgenre

CHECK = """
{imports}
from transformers import AutoFeatureExtractor, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, AutoProcessor
from transformers import pipeline

for auto in (AutoFeatureExtractor, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, AutoProcessor):
    assert type(auto.from_pretrained({folder!r})).__module__.startswith("descant."), auto
model = pipeline("music-question-answering", model={folder!r}).model
assert type(model).__module__.startswith("descant.")
"""


def run_python(code: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "import descant; from transformers import AutoConfig",
        "from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration",
    ],
)
def test_auto_classes_and_pipelines_know_the_model_in_any_order_of_imports(tmp_path: Path, imports: str) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    run_python(CHECK.format(imports=imports, folder=folder))


def test_auto_classes_and_pipelines_know_the_model_where_transformers_was_imported_first(tmp_path: Path) -> None:
    imports = "from transformers import AutoModelForSeq2SeqLM, pipeline; import descant"
    done = run_forked("-c", CHECK.format(imports=imports, folder=str(save_tiny_model(tmp_path / "model"))))
    assert done.returncode == 0, done.stderr


def test_every_class_of_the_table_is_in_its_folder() -> None:
    for model_type, classes in MODELS.items():
        folder = import_module(f"descant.models.{model_type}")
        assert getattr(folder, classes["AutoConfig"]).model_type == model_type
        assert all(hasattr(folder, name) for name in classes.values())
        assert set(classes) <= set(MAPPINGS)


def test_importing_descant_imports_neither_torch_nor_transformers() -> None:
    run_python("import sys, descant; assert not {'torch', 'transformers'} & sys.modules.keys()")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def onto_parts(parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what was trained alone."""
    folder = tmp_path_factory.mktemp("trained")
    join_tiny(parts)[0].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(parts: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all weights, which names no parts."""
    folder = tmp_path_factory.mktemp("whole")
    model, _ = join_tiny(parts)
    model.config.audio_model_id = model.config.text_model_id = None
    model.save_pretrained(folder)
    return folder


def batch_for(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Two rows that `forward` takes, with one clip each."""
    positions = model.config.audio_positions
    prompt = [3, *[model.config.audio_token_id] * positions, 4, 5]
    return {
        "input_features": torch.sin(torch.arange(2 * 24_000.0).view(2, -1) / torch.tensor([[9.0], [5.0]])),
        "prompt_input_ids": torch.tensor([prompt, prompt]),
        "prompt_attention_mask": torch.ones(2, len(prompt), dtype=torch.long),
        "labels": torch.tensor([[5, 6, 7], [7, 6, -100]]),
    }


def trained_names(model: torch.nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("folder", ["whole", "onto_parts"])
@pytest.mark.parametrize("with_info", [False, True])
def test_a_reloaded_mert_lm_trains_its_projector_alone(folder: str, with_info: bool, request) -> None:
    loaded = MertLMForConditionalGeneration.from_pretrained(
        request.getfixturevalue(folder), output_loading_info=with_info
    )
    model = loaded[0] if with_info else loaded
    assert trained_names(model) == {name for name, _ in model.named_parameters() if name.startswith("projector.")}


class Rows(torch.utils.data.Dataset):
    def __init__(self, model: PreTrainedModel) -> None:
        self.batch = batch_for(model)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {name: values[row] for name, values in self.batch.items()}


def test_training_a_whole_mert_lm_leaves_its_parts_as_they_were(whole: Path, tmp_path: Path) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(whole)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    arguments = TrainingArguments(
        tmp_path, max_steps=2, per_device_train_batch_size=2, learning_rate=0.1, use_cpu=True, report_to="none"
    )
    Trainer(model, arguments, train_dataset=Rows(model)).train()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if name.startswith("projector.")}


def test_a_reloaded_subgenre_model_leaves_the_text_encoders_pooler_frozen(tmp_path: Path) -> None:
    text = BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    built = SubgenreForSequenceClassification(SubgenreConfig(text_config=text, hidden_size=8, audio_dim=6))
    built.save_pretrained(tmp_path)
    frozen = {name for name, _ in built.named_parameters()} - trained_names(built)
    assert frozen == {"text_encoder.pooler.dense.weight", "text_encoder.pooler.dense.bias"}
    for load in (SubgenreForSequenceClassification, AutoModelForSequenceClassification):
        assert trained_names(load.from_pretrained(tmp_path)) == trained_names(built)


@pytest.mark.parametrize("layer_mix", ["mean", "learned"])
def test_a_missing_scale_of_the_projector_is_filled_with_one_that_changes_nothing(parts, tmp_path, layer_mix) -> None:
    model, _ = join_tiny(parts, layer_mix=layer_mix)
    model.config.audio_model_id = model.config.text_model_id = None
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for name in ("projector.mean", "projector.spread", "projector.layer_logits"):
        weights.pop(name, None)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = MertLMForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.projector.mean.eq(0).all() and loaded.projector.spread.eq(1).all()
    assert layer_mix == "mean" or loaded.projector.layer_logits.eq(0).all()
    batch = batch_for(loaded)
    assert loaded(**batch).loss == model(**batch).loss  # the tiny model was not standardised


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16"])
def test_parts_are_loaded_in_the_dtype_that_is_asked_for(onto_parts: Path, name: str, dtype: Any) -> None:
    for load in (MertLMForConditionalGeneration, AutoModelForMultimodalLM):
        model = load.from_pretrained(onto_parts, **{name: dtype})
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model(**batch_for(model)).loss.isfinite()


def test_without_a_dtype_parts_have_that_of_the_saved_model(onto_parts: Path, parts, tmp_path: Path) -> None:
    assert MertLMForConditionalGeneration.from_pretrained(onto_parts).dtype == torch.float32
    join_tiny(parts, dtype=torch.bfloat16)[0].save_pretrained(tmp_path)
    for dtype in (None, "auto"):
        model = MertLMForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype)
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    with pytest.raises(ValueError, match="dtype is 'float33'"):
        MertLMForConditionalGeneration.from_pretrained(tmp_path, dtype="float33")


def test_parts_attend_as_they_are_asked_to(onto_parts: Path) -> None:
    for load in (MertLMForConditionalGeneration, AutoModelForMultimodalLM):
        model = load.from_pretrained(onto_parts, attn_implementation="eager")
        parts = model, model.audio_encoder, model.language_model
        assert [part.config._attn_implementation for part in parts] == ["eager"] * 3
        with pytest.raises(ValueError, match="nonsense"):
            load.from_pretrained(onto_parts, attn_implementation="nonsense")
    mixed = MertLMForConditionalGeneration.from_pretrained(onto_parts, attn_implementation={"text_config": "eager"})
    kinds = [part.config._attn_implementation for part in (mixed.audio_encoder, mixed.language_model)]
    assert kinds == ["sdpa", "eager"]


def test_the_language_model_is_quantised_as_it_is_asked_to(onto_parts: Path) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        MertLMForConditionalGeneration.from_pretrained(onto_parts, quantization_config={"quant_method": "nonsense"})


def test_fields_of_the_configuration_are_replaced(onto_parts: Path, whole: Path) -> None:
    for folder in (onto_parts, whole):
        for load in (MertLMForConditionalGeneration, AutoModelForMultimodalLM):
            model = load.from_pretrained(folder, pool_stride=7)
            assert (model.config.pool_stride, model.config.audio_positions) == (7, 7)
            assert model.get_audio_features(batch_for(model)["input_features"]).shape[1] == 7


@pytest.mark.parametrize("name", ["max_memory", "poolstride"])
def test_an_argument_that_cannot_be_followed_is_refused_by_name(onto_parts: Path, name: str) -> None:
    with pytest.raises(TypeError, match=name):
        MertLMForConditionalGeneration.from_pretrained(onto_parts, **{name: 7})


def test_parts_are_loaded_onto_a_device_map(onto_parts: Path) -> None:
    expected = MertLMForConditionalGeneration.from_pretrained(onto_parts)
    for device_map in ("cpu", {"": "cpu"}, "auto"):
        model = MertLMForConditionalGeneration.from_pretrained(onto_parts, device_map=device_map)
        assert torch.equal(model(**batch_for(model)).loss, expected(**batch_for(model)).loss)


def test_a_folder_within_a_folder_is_loaded(onto_parts: Path, parts, tmp_path: Path) -> None:
    model, _ = join_tiny(parts, seed=4, pool_stride=9)
    model.generation_config.max_new_tokens = 3
    model.save_pretrained(tmp_path / "inner")
    (tmp_path / "config.json").write_text((onto_parts / "config.json").read_text())
    loaded = MertLMForConditionalGeneration.from_pretrained(tmp_path, subfolder="inner")
    assert torch.equal(loaded.projector.projection.weight, model.projector.projection.weight)
    assert (loaded.config.pool_stride, loaded.generation_config.max_new_tokens) == (9, 3)


def adapt(model: PreTrainedModel, folder: Path) -> torch.nn.Module:
    """Saves a random adapter of a model; returns the adapted model."""
    whole = list(type(model).lora_modules_to_save)
    config = LoraConfig(r=2, target_modules=type(model).lora_target_modules, modules_to_save=whole)
    config.base_model_name_or_path = model.name_or_path or None
    adapted = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.3 * torch.randn_like(weight)
    adapted.eval().save_pretrained(folder)
    model.save_beside_adapter(str(folder))
    return adapted


def save_lp_music_caps(folder: Path) -> PreTrainedModel:
    return LPMusicCapsForConditionalGeneration.from_pretrained(save_tiny_model(folder))


def save_mert_lm(folder: Path) -> PreTrainedModel:
    return join_tiny(save_parts(folder))[0]


def save_subgenre(folder: Path) -> PreTrainedModel:
    build_tiny_subgenre()[0].save_pretrained(folder)
    return SubgenreForSequenceClassification.from_pretrained(folder)


def probe(model: torch.nn.Module) -> torch.Tensor:
    """What a model gives for a fixed input."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if base.config.model_type == "subgenre":
        ids = {"text_input_ids": torch.tensor([[3, 4, 5]]), "text_attention_mask": torch.ones(1, 3, dtype=torch.long)}
        place = {"text_row": torch.zeros(1, dtype=torch.long), "text_kind": torch.zeros(1, dtype=torch.long)}
        return model(modality_mask=torch.tensor([[1, 0, 0]]), **ids, **place).logits
    if base.config.model_type == "mert_lm":
        return model(**batch_for(base)).logits
    return model(input_features=torch.ones(1, 128, 1001).cumsum(2).sin(), labels=torch.tensor([[0, 5, 2]])).logits


SAVERS = {"lp_music_caps": save_lp_music_caps, "mert_lm": save_mert_lm, "subgenre": save_subgenre}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@torch.no_grad()
def test_an_adapter_folder_is_loaded_switched_off_and_saved_again(save, tmp_path: Path) -> None:
    model = save(tmp_path / "base")
    plain = probe(model)
    expected = probe(adapt(model, tmp_path / "adapter"))
    assert not torch.allclose(plain, expected)
    load = AutoModelForSequenceClassification if save is save_subgenre else AutoModelForMultimodalLM
    loaded, info = load.from_pretrained(tmp_path / "adapter", output_loading_info=True)
    assert not info["missing_keys"]
    assert not trained_names(loaded)
    torch.testing.assert_close(probe(loaded), expected)
    loaded.disable_adapters()
    assert torch.allclose(probe(loaded), plain) or save is save_mert_lm  # whose base here has another projector
    loaded.enable_adapters()
    loaded.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(probe(load.from_pretrained(tmp_path / "again")), expected)
    merged = loaded.merge_adapter()
    assert merged is loaded and merged.peft_model is None
    torch.testing.assert_close(probe(merged), expected, atol=1e-4, rtol=1e-4)
    if save is not save_mert_lm:  # whose language model is loaded from its own folder, without the adapter
        merged.save_pretrained(tmp_path / "merged")
        torch.testing.assert_close(probe(type(merged).from_pretrained(tmp_path / "merged")), probe(merged))


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_loaded_adapter_can_be_trained_on(save, tmp_path: Path) -> None:
    adapted = adapt(save(tmp_path / "base"), tmp_path / "adapter")
    load = AutoModelForSequenceClassification if save is save_subgenre else AutoModelForMultimodalLM
    loaded = load.from_pretrained(tmp_path / "adapter")
    loaded.peft_model.set_requires_grad("default")
    assert trained_names(loaded.peft_model) == trained_names(adapted)
    probe(loaded.train()).sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for name, weight in loaded.named_parameters())


def test_an_adapter_that_lacks_a_matrix_says_so(tmp_path: Path) -> None:
    adapt(save_lp_music_caps(tmp_path / "base"), tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    gone = next(name for name in weights if "lora_B" in name)
    save_file({name: weight for name, weight in weights.items() if name != gone}, file)
    _, info = AutoModelForMultimodalLM.from_pretrained(tmp_path / "adapter", output_loading_info=True)
    assert len(info["missing_keys"]) == 1 and "lora_B" in next(iter(info["missing_keys"]))


def test_the_models_load_adapters_by_the_same_code() -> None:
    modules = modeling_lp_music_caps, loading_mert_lm, modeling_subgenre
    for name in ("LoadingInfo", "AdapterMixin"):
        assert len({inspect.getsource(getattr(module, name)) for module in modules}) == 1

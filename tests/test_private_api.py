"""What descant uses of other libraries beyond their public API, each with a test that says which file to mend.

An upgrade that moves one of these fails here with "X moved; see FILE". A private name that is used in the source and
is not on these lists fails, too.
"""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import build_tiny_model

import descant

SOURCE = Path(descant.__path__[0])
PACKED_BART = "models/lp_music_caps/packed_bart_lp_music_caps.py"
ENGINE = "models/lp_music_caps/engine_lp_music_caps.py"
SETTINGS = "models/lp_music_caps/search_lp_music_caps.py"
LOADING = "models/mert_lm/loading_mert_lm.py"
DECISION = "models/mert_lm/decision_music.py"
GENERATION = "models/mert_lm/generation_mert_lm.py"
MODELING = "models/mert_lm/modeling_mert_lm.py"
PIPELINE = "models/lp_music_caps/pipeline_music.py"
SUBGENRE_PIPELINE = "models/subgenre/pipeline_music_subgenre_classification.py"
MODELING_AUTO = "transformers.models.auto.modeling_auto"

# Private functions and classes by their dotted names, and the file that uses each.
NAMES = [
    ("torch.cpu._is_vnni_supported", PACKED_BART),
    ("torch.ops.mkldnn._is_mkldnn_bf16_supported", PACKED_BART),
    ("torch.ops.mkldnn._reorder_linear_weight", PACKED_BART),
    ("torch.ops.mkldnn._linear_pointwise", PACKED_BART),
    ("torch.ops.mkldnn._linear_pointwise.binary", PACKED_BART),
    ("torch.ops.mkldnn._reorder_convolution_weight", PACKED_BART),
    ("torch.ops.mkldnn._convolution_pointwise", PACKED_BART),
    ("torch.ops.mkldnn._convolution_pointwise.binary", PACKED_BART),
    ("torch.ops.onednn.qlinear_prepack", PACKED_BART),
    ("torch.ops.onednn.qlinear_pointwise", PACKED_BART),
    ("torch.nn.Parameter._version", ENGINE),
    ("transformers.Trainer._run_epoch", "training/saving.py"),
    ("transformers.Trainer._get_output_dir", "training/saving.py"),
    ("transformers.Trainer._save_checkpoint", "training/saving.py"),
    ("transformers.Trainer._save_checkpoint", "training/trainer.py"),
    ("transformers.Trainer._save", "training/trainer.py"),
    ("transformers.Trainer._prepare_for_training", "training/trainer.py"),
    ("transformers.Trainer._get_train_sampler", "training/trainer.py"),
    ("transformers.Trainer._issue_warnings_after_load", "training/trainer.py"),
    ("transformers.pipelines.base.ChunkPipeline", PIPELINE),
    ("transformers.pipelines.base.Pipeline._load_processor", PIPELINE),
    ("transformers.pipelines.base.Pipeline._load_image_processor", PIPELINE),
    ("transformers.pipelines.base.Pipeline._load_video_processor", PIPELINE),
    ("transformers.pipelines.base.Pipeline._ensure_tensor_on_device", SUBGENRE_PIPELINE),
    ("transformers.PreTrainedModel._keys_to_ignore_on_save", MODELING),
    ("transformers.PreTrainedModel._init_weights", MODELING),
    ("transformers.PreTrainedConfig._attn_implementation", LOADING),
    ("transformers.initialization.copy_", "models/subgenre/modeling_subgenre.py"),
    ("transformers.dynamic_module_utils.custom_object_save", MODELING),
    ("transformers.integrations.integration_utils.INTEGRATION_TO_CALLBACK", "training/settings.py"),
    ("transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES", "models/registration.py"),
    ("transformers.models.auto.feature_extraction_auto.FEATURE_EXTRACTOR_MAPPING_NAMES", "models/registration.py"),
    ("transformers.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES", "models/registration.py"),
    (f"{MODELING_AUTO}.MODEL_MAPPING_NAMES", "models/registration.py"),
    (f"{MODELING_AUTO}.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "models/registration.py"),
    (f"{MODELING_AUTO}.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", "models/registration.py"),
    (f"{MODELING_AUTO}.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "models/registration.py"),
    ("transformers.cli.serving.server.build_server", "doors/server.py"),
    ("huggingface_hub._CACHED_NO_EXIST", "hub_client.py"),
    ("datasets.info.DatasetInfosDict", "building/dataset_folder.py"),
    ("datasets.DownloadManager", "building/clip_rows.py"),
    ("multiprocessing.forkserver._forkserver._forkserver_pid", "data/extraction.py"),
]  # fmt: skip

# Functions, the arguments that are passed to them, and the file that does so.
ARGUMENTS = [
    ("transformers.GenerationMixin.generate", ["custom_generate"], SETTINGS),
    ("transformers.Trainer._save", ["output_dir", "state_dict"], "training/trainer.py"),
    ("transformers.Trainer._save_checkpoint", ["model", "trial"], "training/saving.py"),
    ("transformers.Trainer._get_output_dir", ["trial"], "training/saving.py"),
    ("transformers.Trainer._get_train_sampler", ["train_dataset"], "training/trainer.py"),
    ("transformers.cli.serving.server.build_server", [
        "model_manager", "chat_handler", "completion_handler", "response_handler", "transcription_handler",
        "systemone_handler", "generation_state",
    ], "doors/server.py"),
    ("peft.PeftModel.__init__", ["autocast_adapter_dtype"], LOADING),
    ("peft.PeftModel.load_adapter", ["is_trainable", "torch_device", "autocast_adapter_dtype"], LOADING),
    ("peft.PeftModel.save_pretrained", ["is_main_process"], LOADING),
]

# Words that the source of a library must hold, for what is passed on by name or read from an attribute.
WORDS = [
    ("transformers.utils.hub", "_raise_exceptions_for_missing_entries", LOADING),
    ("transformers.utils.hub", "_raise_exceptions_for_connection_errors", LOADING),
    ("transformers.utils.hub", "_raise_exceptions_for_missing_entries", DECISION),
    ("transformers.models.auto.auto_factory", "_adapter_model_path", LOADING),
    ("transformers.models.auto.auto_factory", "_adapter_model_path", DECISION),
    ("transformers.models.auto.auto_factory", "_from_auto", LOADING),
    ("transformers.modeling_utils", "_from_pipeline", LOADING),
    ("transformers.models.auto.auto_factory", "_commit_hash", LOADING),
    ("transformers.generation.configuration_utils", "_from_model_config", GENERATION),
    ("torch.nn.modules.module", "_forward_hooks", ENGINE),
    ("torch.nn.modules.module", "_forward_pre_hooks", ENGINE),
    ("accelerate.accelerator", "_original_forward", ENGINE),
]

# Private by their form, but documented, or not another library's.
PUBLIC = {"_class", "_exit", "_kwargs", "_L", "_p", "_recall", "_type"}  # _type: in metadata of Parquet files


def find(name: str) -> Any:
    """The object of a dotted name; AttributeError or ImportError where there is none."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def moved(what: str, file: str) -> str:
    return f"{what} moved; see src/descant/{file}"


@pytest.mark.parametrize(("name", "file"), NAMES, ids=lambda value: value.rpartition("/")[2])
def test_a_private_name_is_where_it_was(name: str, file: str) -> None:
    try:
        find(name)
    except (AttributeError, ImportError, RuntimeError):
        pytest.fail(moved(name, file))


@pytest.mark.parametrize(("name", "arguments", "file"), ARGUMENTS, ids=[name for name, _, _ in ARGUMENTS])
def test_a_function_takes_the_arguments_that_it_is_given(name: str, arguments: list[str], file: str) -> None:
    assert set(arguments) <= inspect.signature(find(name)).parameters.keys(), moved(f"an argument of {name}", file)


@pytest.mark.parametrize(("module", "word", "file"), WORDS, ids=[f"{word}-{file}" for _, word, file in WORDS])
def test_a_library_still_knows_a_word(module: str, word: str, file: str) -> None:
    assert word in inspect.getsource(find(module)), moved(f"{word} of {module}", file)


def test_hooks_for_hidden_states_come_from_the_module_that_is_left_out_of_account() -> None:
    model, _ = build_tiny_model()
    model(torch.zeros(1, 128, 1001), labels=torch.tensor([[0, 5, 2]]), output_hidden_states=True)
    hooks = [hook for part in model.modules() for hook in part._forward_hooks.values()]
    assert hooks, moved("what hidden states are collected by", ENGINE)
    assert {hook.__module__ for hook in hooks} <= {"transformers.utils.output_capturing"}, moved(
        "transformers.utils.output_capturing", ENGINE
    )


def test_a_decoding_method_of_ones_own_is_called_with_what_generate_prepared() -> None:
    from descant.models.lp_music_caps.search_lp_music_caps import read_settings

    model, _ = build_tiny_model()
    try:
        settings = read_settings(model, None, {"num_beams": 3, "max_length": 9})
    except Exception as error:
        pytest.fail(f"{moved('what custom_generate is called with', SETTINGS)} ({error})")
    assert (settings.num_beams, settings.max_length) == (3, 9), moved("what custom_generate is called with", SETTINGS)


def test_a_language_model_takes_mask_positions_cache_and_embeddings_by_their_places() -> None:
    from transformers import LlamaModel

    places = list(inspect.signature(LlamaModel.forward).parameters)[1:6]
    assert places[:3] == ["input_ids", "attention_mask", "position_ids"], moved("LlamaModel.forward", GENERATION)
    assert places[3] in ("cache", "past_key_values") and places[4] == "inputs_embeds", moved(
        "LlamaModel.forward", GENERATION
    )


def test_auto_classes_import_a_models_module_by_its_type() -> None:
    source = inspect.getsource(find("transformers.models.auto.auto_factory"))
    assert 'importlib.import_module(f".{module_name}", "transformers.models")' in source, moved(
        "the import of a model's module", "models/registration.py"
    )
    spec = importlib.util.find_spec("transformers.models.auto.modeling_auto")
    assert spec is not None and hasattr(spec.loader, "exec_module"), moved("spec.loader", "models/registration.py")


def test_the_network_errors_of_the_hub_are_those_of_its_http_library() -> None:
    from huggingface_hub import errors

    above = errors.HfHubHTTPError.__mro__[1]
    assert above.__name__ == "HTTPError" and above.__module__.startswith("httpx"), moved(
        "HfHubHTTPError.__mro__[1]", "hub_client.py"
    )


def test_accelerate_asks_a_model_for_its_embeddings_where_it_shards() -> None:
    source = inspect.getsource(find("accelerate.utils.fsdp_utils"))
    assert "get_input_embeddings" in source or "get_output_embeddings" in source, moved(
        "get_input_embeddings in accelerate.utils.fsdp_utils", "training/trainer.py"
    )


def test_every_file_of_the_lists_uses_what_it_is_listed_for() -> None:
    listed = [(name.rsplit(".", 1)[1], file) for name, file in NAMES]
    listed += [(word, file) for _, word, file in WORDS]
    listed += [(argument, file) for _, arguments, file in ARGUMENTS for argument in arguments]
    assert [(word, file) for word, file in listed if word not in (SOURCE / file).read_text()] == []


def list_private_names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """The private names that a file reads from something, imports or passes, and those that it defines."""
    used, defined = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Load()) | ast.keyword(arg=str(name)):
                used.add(name)
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.AsyncFunctionDef(name=name):
                defined.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                defined.add(name)
            case ast.ImportFrom(module=str(module), level=0) if not module.startswith("descant"):
                used |= {alias.name for alias in node.names}
            case ast.Constant(value=str(name)) if name.isidentifier():
                used.add(name)
    return {name for name in used if is_private(name)}, {name for name in defined if is_private(name)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


def test_every_private_name_that_is_used_is_on_the_lists() -> None:
    used, defined = set(), set()
    for file in SOURCE.rglob("*.py"):
        here, own = list_private_names(ast.parse(file.read_text()))
        used, defined = used | here, defined | own
    listed = {part for name, _ in NAMES for part in name.split(".")} | {word for _, word, _ in WORDS}
    unlisted = sorted(used - defined - listed - PUBLIC)
    assert not unlisted, f"private names of other libraries, to be put on the lists: {', '.join(unlisted)}"


def test_what_moved_is_said_with_the_file() -> None:
    said = (AssertionError, pytest.fail.Exception)
    for name in ("torch.ops.mkldnn._gone", "transformers.Gone", "gone.entirely"):
        with pytest.raises(said, match=f"{name} moved; see src/descant/f.py"):
            test_a_private_name_is_where_it_was(name, "f.py")
    with pytest.raises(said, match="_gone_ of transformers.trainer moved; see src/descant/f.py"):
        test_a_library_still_knows_a_word("transformers.trainer", "_gone_", "f.py")
    with pytest.raises(said, match="Trainer.train moved; see src/descant/f.py"):
        test_a_function_takes_the_arguments_that_it_is_given("transformers.Trainer.train", ["gone"], "f.py")

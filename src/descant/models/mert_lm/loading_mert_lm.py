"""Loads a model: its two frozen parts by their ids, what was trained onto them, and adapters through peft."""

from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ADAPTER_CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_NAME, cached_file, logging

from .configuration_mert_lm import MertLMConfig

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

logger = logging.get_logger(__name__)

# MERT's settings that lead away from HuBERT's layout, with the values that do not.
HUBERT_LAYOUT = {"feature_extractor_cqt": (False,), "deepnorm": (False,), "attention_relax": (-1, -1.0, None)}
# Arguments of from_pretrained that say how to fetch files: those that hold for the parts too, and those that do not.
OF_EVERY_REPOSITORY = ("cache_dir", "local_files_only", "proxies", "token")
OF_ONE_REPOSITORY = ("force_download", "revision", "subfolder")
# Arguments that change nothing for parts and safetensors: code of the parts' repositories is never run.
WITHOUT_EFFECT = (
    "_commit_hash", "_from_auto", "_from_pipeline", "code_revision", "low_cpu_mem_usage", "trust_remote_code",
    "use_safetensors", "weights_only",
)  # fmt: skip
# The audio encoder that comes with descant, by the name that configurations give it on every machine.
SHIPPED = "musicnn"


def find_encoder(source: str) -> str:
    """Return the folder of the encoder that comes with descant for its name, "musicnn"; any other source as it is.

    Raises ValueError for the name where descant is not installed: a checkpoint that is loaded with its own code has no
    such folder.
    """
    if source != SHIPPED:
        return source
    try:
        return str(import_module("descant.models.musicnn").PRETRAINED)
    except ImportError as error:
        raise ValueError(f"the encoder {SHIPPED} comes with descant: install it by `pip install descant`") from error


def load_audio_encoder(
    source: str, dtype: torch.dtype = torch.float32, config: PreTrainedConfig | None = None, **arguments: Any
) -> PreTrainedModel:
    """Load an encoder without running code of its repository; MERT's weights go into transformers' HuBERT.

    arguments: others of transformers' `from_pretrained`, such as attn_implementation or cache_dir.
    config: in place of the one beside the weights.
    Raises ValueError for a MERT of another layout than HuBERT's, and where weights are missing or misshapen.
    """
    folder = find_encoder(source)
    config = config or read_audio_config(folder, **pick(arguments, OF_EVERY_REPOSITORY))
    if source == SHIPPED and arguments.get("device_map") is None:
        return load_shipped(folder, config, dtype, arguments.get("attn_implementation"))
    kind = HubertModel if isinstance(config, HubertConfig) else AutoModel
    encoder, info = kind.from_pretrained(folder, config=config, dtype=dtype, output_loading_info=True, **arguments)
    if info["missing_keys"] or info["mismatched_keys"]:
        lacking = sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])])
        raise ValueError(f"{source}: is no encoder of its configuration: {lacking[0]} is missing or of another shape")
    return encoder


def load_shipped(
    folder: str, config: PreTrainedConfig, dtype: torch.dtype, attn_implementation: str | None
) -> PreTrainedModel:
    """Load the encoder that comes with descant, whose weights are in one file under its own names.

    transformers' `from_pretrained` first compiles 1,200 patterns that rename other models' weights: a tenth of a
    second of every start.
    """
    encoder = AutoModel.from_config(config, dtype=dtype, attn_implementation=attn_implementation)
    try:
        missing = encoder.load_state_dict(load_file(Path(folder) / SAFE_WEIGHTS_NAME), strict=False).missing_keys
    except RuntimeError as error:
        raise ValueError(f"{folder}: is no encoder of its configuration: weights are of another shape") from error
    if missing:
        raise ValueError(f"{folder}: is no encoder of its configuration: {missing[0]} is missing")
    return encoder.eval()


def read_audio_config(source: str, **hub: Any) -> PreTrainedConfig:
    """Read the encoder's configuration; MERT's is read as HuBERT's, whose layout it has."""
    values, _ = PreTrainedConfig.get_config_dict(source, **hub)
    if values.get("model_type") != "mert_model":
        config = AutoConfig.from_pretrained(source, **hub)
    else:
        for name, allowed in HUBERT_LAYOUT.items():
            if values.get(name, allowed[0]) not in allowed:
                raise ValueError(f"{source}: {name} is {values[name]!r}, which is not HuBERT's layout")
        config = HubertConfig(**{name: values[name] for name in HubertConfig.__annotations__ if name in values})
    if isinstance(config, HubertConfig):
        config.mask_time_prob = config.mask_feature_prob = 0.0  # masks are for training the encoder
    return config


def load_onto_parts(
    model_class: type[PreTrainedModel],
    source: str | Path,
    config: MertLMConfig,
    *,
    dtype: torch.dtype | str | None = None,
    torch_dtype: torch.dtype | str | None = None,
    attn_implementation: str | dict[str, str] | None = None,
    quantization_config: Any = None,
    device_map: Any = None,
    output_loading_info: bool = False,
    adapter_kwargs: dict[str, Any] | None = None,
    **others: Any,
) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, Any]]:
    """Load the parts that the configuration names, and onto them the weights or the adapter in `source`.

    dtype: of all weights; by default, and as "auto", the one that the folder was saved in.
    attn_implementation: of both parts, or of each by the name of its configuration.
    quantization_config: of the language model; the other parts are small.
    device_map: what each part is loaded with; the projector follows the language model.
    others: how to fetch files (as for any `from_pretrained`), and fields of the configuration, which replace those
        of `source`.

    Raises:
        TypeError: an argument that is unknown or cannot be followed here.
        ValueError: `source` holds no weights, or weights that the model has not.
    """
    hub = pick(others, OF_EVERY_REPOSITORY + OF_ONE_REPOSITORY)
    config = replace_fields(config, {name: others[name] for name in others.keys() - {*hub, *WITHOUT_EFFECT}})
    config._attn_implementation = attn_implementation or config._attn_implementation
    dtype = read_dtype(dtype or torch_dtype or "auto", config)
    arguments = {"dtype": dtype, "device_map": device_map, **pick(others, OF_EVERY_REPOSITORY)}
    model = model_class(config, *load_parts(config, quantization_config, **arguments))
    model.projector.to(model.get_input_embeddings().weight.device, dtype)
    info = load_weights(model, source, hub, adapter_kwargs or {})
    if find_file(source, GENERATION_CONFIG_NAME, **hub):
        model.generation_config = type(model.generation_config).from_pretrained(source, **hub)
    model.name_or_path = str(source)
    return (model.eval(), info) if output_loading_info else model.eval()


def load_parts(
    config: MertLMConfig, quantization_config: Any, dtype: torch.dtype, **arguments: Any
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Return the audio encoder and the language model that a configuration names, the second as yet random where the
    model's own folder holds its weights."""
    # The encoder that comes with descant may have got further states since: the model knows those that it was made of.
    own = config.audio_config if config.audio_model_id == SHIPPED else None
    encoder = load_audio_encoder(
        str(config.audio_model_id), config=own, attn_implementation=config.audio_config._attn_implementation,
        dtype=dtype, **arguments,
    )  # fmt: skip
    if config.text_model_id is None:
        return encoder, AutoModelForCausalLM.from_config(config.text_config, dtype=dtype).to(encoder.device)
    language_model = AutoModelForCausalLM.from_pretrained(
        config.text_model_id, attn_implementation=config.text_config._attn_implementation,
        quantization_config=quantization_config, dtype=dtype, **arguments,
    )  # fmt: skip
    return encoder, language_model


def load_weights(
    model: PreTrainedModel, source: str | Path, hub: dict[str, Any], adapter_kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Load the trained weights and the adapter that there are; returns what was missing, by kind."""
    info: dict[str, Any] = LoadingInfo()
    adapter_kwargs = {**hub, **adapter_kwargs}
    adapter = adapter_kwargs.pop("_adapter_model_path", None)  # an Auto class leads from an adapter to its base
    if adapter is None and find_file(source, ADAPTER_CONFIG_NAME, **hub):
        adapter = source
    weights = find_file(source, SAFE_WEIGHTS_NAME, **hub)
    if weights is not None:
        info["missing_keys"] = load_trained(model, weights, source)
    if adapter is not None:
        info["missing_keys"] |= model.load_adapter(str(adapter), adapter_kwargs=adapter_kwargs)["missing_keys"]
    elif weights is None:
        raise ValueError(f"{source} holds neither {SAFE_WEIGHTS_NAME} nor {ADAPTER_CONFIG_NAME}")
    return info


def load_trained(model: PreTrainedModel, file: str, source: str | Path) -> set[str]:
    """Fill the trained weights from a file of `source`; returns the names of those that are missing."""
    try:
        result = model.load_state_dict(load_file(file), strict=False)
    except RuntimeError as error:  # torch's message lists every weight of another shape
        raise ValueError(f"{source} holds weights of other shapes than its configuration says: {error}") from error
    if result.unexpected_keys:
        raise ValueError(f"{source} holds weights that the model has not, {sorted(result.unexpected_keys)[0]} first")
    missing = set(result.missing_keys) - model.frozen_keys() - set(model.all_tied_weights_keys)
    if missing:
        logger.warning(f"{source} lacks {', '.join(sorted(missing))}: these keep their first values")
    return missing


def read_dtype(dtype: torch.dtype | str, config: MertLMConfig) -> torch.dtype:
    """Return a torch dtype given by itself or its name; "auto" is the one that the model was saved in."""
    if dtype == "auto":
        dtype = config.dtype or torch.float32
    value = vars(torch).get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(value, torch.dtype):
        raise ValueError(f"dtype is {dtype!r}: give one of torch's, such as torch.bfloat16, or its name")
    return value


def replace_fields(config: MertLMConfig, fields: dict[str, Any]) -> MertLMConfig:
    """Return a copy of a configuration with other values of some fields; raises TypeError for names that are none."""
    values = config.to_dict()
    unknown = sorted(name for name, value in fields.items() if name not in values and value is not None)
    if unknown:
        raise TypeError(
            f"from_pretrained got {unknown[0]}, which is no field of {type(config).__name__} and cannot be followed "
            "where a model is loaded onto its parts"
        )
    replaced = {name: value for name, value in fields.items() if name in values}
    if not replaced:
        return deepcopy(config)
    new = type(config).from_dict({**values, **replaced})
    new._attn_implementation = config._attn_implementation
    return new


def find_file(source: str | Path, name: str, **hub: Any) -> str | None:
    """Return the path of a file in a folder or Hub repository, or None."""
    return cached_file(
        str(source), name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
        **hub,
    )  # fmt: skip


def pick(arguments: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the arguments of these names that were given."""
    return {name: arguments[name] for name in names if name in arguments}


class LoadingInfo(dict):
    """What loading left out, by kind: `from_pretrained` returns it where it is asked for loading information."""

    def __init__(self, missing_keys: set[str] | None = None) -> None:
        empty: dict[str, Any] = {"unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
        super().__init__(missing_keys=missing_keys or set(), **empty)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict, as transformers asks of what its `load_adapter` returns."""
        return dict(self)


class AdapterMixin(Base):
    """Loads, saves and switches adapters through peft's own PeftModel.

    The methods of transformers (5.24) for this refuse every version of peft that has been released.
    """

    _adapted: tuple[Any, ...] = ()  # a PeftModel, which as an attribute would be a submodule

    @property
    def peft_model(self) -> Any:
        """The PeftModel around this one, to train, merge or unload an adapter; None where no adapter was loaded."""
        return self._adapted[0] if self._adapted else None

    def load_adapter(
        self,
        peft_model_id: str | None = None,
        adapter_name: str | None = None,
        is_trainable: bool = False,
        adapter_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LoadingInfo:
        """Load an adapter by folder or Hub id into the layers that it adapts, frozen unless `is_trainable`.

        adapter_kwargs: how to fetch files. Raises ValueError for an adapter of prompts, which changes no layers.
        """
        if peft_model_id is None:  # weights that are at hand already
            return super().load_adapter(None, adapter_name, is_trainable=is_trainable, **kwargs)
        try:  # guarded, or transformers would ask for peft wherever a published model is loaded
            from peft import PeftConfig, PeftModel
        except ImportError as error:
            raise ImportError(f"{peft_model_id} is an adapter, which takes peft: pip install peft") from error
        name, hub = adapter_name or "default", adapter_kwargs or {}
        if self.peft_model is None:
            config = PeftConfig.from_pretrained(peft_model_id, **hub)
            if config.is_prompt_learning:
                raise ValueError(f"{peft_model_id} adapts prompts: load it by PeftModel.from_pretrained(model, …)")
            config.inference_mode = not is_trainable
            self._adapted = (PeftModel(self, config, name, autocast_adapter_dtype=is_trainable),)
        how = {"torch_device": str(self.device), "autocast_adapter_dtype": is_trainable}
        result = self.peft_model.load_adapter(peft_model_id, name, is_trainable, **how, **hub)
        return LoadingInfo({key.removeprefix("base_model.model.") for key in result.missing_keys})

    def merge_adapter(self) -> Self:
        """Add a loaded adapter's matrices to the layers that it adapts, and return the plain model."""
        if self.peft_model is not None:
            self.peft_model.merge_and_unload()
            self._adapted = ()
        return self

    def disable_adapters(self) -> None:
        """Answer as the model without its adapters does."""
        self.peft_model.base_model.disable_adapter_layers()

    def enable_adapters(self) -> None:
        """Undo `disable_adapters`."""
        self.peft_model.base_model.enable_adapter_layers()

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **kwargs: Any) -> None:
        """Save as transformers does; of a model with an adapter, the adapter and what it needs to be loaded."""
        if self.peft_model is None:
            super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
            return
        if kwargs.get("push_to_hub"):
            raise ValueError("push_to_hub=True saves no adapter: call model.push_to_hub, or push the saved folder")
        state_dict = kwargs.get("state_dict")
        self.peft_model.save_pretrained(save_directory, is_main_process=is_main_process, state_dict=state_dict)
        if is_main_process:
            self.save_beside_adapter(str(save_directory))

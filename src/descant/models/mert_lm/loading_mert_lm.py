"""Builds a model from an audio encoder and a language model by their ids, and loads what was trained onto them."""

from pathlib import Path
from typing import Any

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
from transformers.utils import ADAPTER_CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_NAME, cached_file

from .configuration_mert_lm import MertLMConfig

# MERT's settings that lead away from HuBERT's layout, with the values that do not.
HUBERT_LAYOUT = {"feature_extractor_cqt": (False,), "deepnorm": (False,), "attention_relax": (-1, -1.0, None)}


def load_audio_encoder(source: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load an encoder without running code of its repository; MERT's weights go into transformers' HuBERT."""
    config = read_audio_config(source)
    kind = HubertModel if isinstance(config, HubertConfig) else AutoModel
    encoder, found = kind.from_pretrained(source, config=config, dtype=dtype, output_loading_info=True)
    if found["missing_keys"] or found["mismatched_keys"]:
        lacking = sorted([*found["missing_keys"], *(str(key) for key in found["mismatched_keys"])])
        raise ValueError(f"{source}: is no encoder of its configuration: {lacking[0]} is missing or of another shape")
    return encoder


def read_audio_config(source: str) -> PreTrainedConfig:
    """The encoder's configuration; MERT's is read as HuBERT's, whose layout it has."""
    values, _ = PreTrainedConfig.get_config_dict(source)
    if values.get("model_type") != "mert_model":
        config = AutoConfig.from_pretrained(source)
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
    output_loading_info: bool = False,
    adapter_kwargs: dict[str, Any] | None = None,
    **_: Any,
) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, Any]]:
    """Load the parts that the configuration names, and onto them the weights or the adapter in `source`.

    Raises ValueError where `source` holds none, or holds weights that the model has not.
    """
    dtype = dtype if isinstance(dtype, torch.dtype) else torch.float32
    encoder = load_audio_encoder(config.audio_model_id, dtype)
    language_model = AutoModelForCausalLM.from_pretrained(config.text_model_id, dtype=dtype)
    model = model_class(config, encoder, language_model).to(dtype)
    missing = set()
    adapter = (adapter_kwargs or {}).get("_adapter_model_path")  # an Auto class leads from an adapter to its base
    if adapter or find_file(source, ADAPTER_CONFIG_NAME):
        model.load_adapter(str(adapter or source))
    else:
        missing = load_trained(model, source)
    if find_file(source, GENERATION_CONFIG_NAME):
        model.generation_config = type(model.generation_config).from_pretrained(source)
    model.name_or_path = str(source)
    info = {"missing_keys": missing, "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}
    return (model.eval(), info) if output_loading_info else model.eval()


def load_trained(model: PreTrainedModel, source: str | Path) -> set[str]:
    """Fill the trained weights; returns the names of those that are missing."""
    file = find_file(source, SAFE_WEIGHTS_NAME)
    if file is None:
        raise ValueError(f"{source} holds neither {SAFE_WEIGHTS_NAME} nor {ADAPTER_CONFIG_NAME}")
    result = model.load_state_dict(load_file(file), strict=False)
    if result.unexpected_keys:
        raise ValueError(f"{source} holds weights that the model has not, {sorted(result.unexpected_keys)[0]} first")
    return set(result.missing_keys) - model.frozen_keys()


def find_file(source: str | Path, name: str) -> str | None:
    """The path of a file in a folder or Hub repository, or None."""
    return cached_file(
        str(source), name, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
    )

"""Builds a model from an audio encoder and a language model by their ids, and loads what was trained onto them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    FeatureExtractionMixin,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Wav2Vec2FeatureExtractor,
)
from transformers.utils import ADAPTER_CONFIG_NAME, GENERATION_CONFIG_NAME, SAFE_WEIGHTS_NAME, cached_file

from .configuration_mert_lm import MertLMConfig
from .feature_extraction_mert_lm import MertLMFeatureExtractor
from .processing_mert_lm import AUDIO_TOKEN, SYSTEM_PROMPT, MertLMProcessor, chat_ids

# MERT's settings that lead away from HuBERT's layout, with the values that do not.
HUBERT_LAYOUT = {"feature_extractor_cqt": (False,), "deepnorm": (False,), "attention_relax": (-1, -1.0, None)}


def join_parts(
    audio_encoder: str,
    text_model: str,
    *,
    window_s: float = 10.0,
    system_prompt: str = SYSTEM_PROMPT,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> tuple[PreTrainedModel, MertLMProcessor]:
    """Build a model, with a fresh projector, and its processor from two parts by Hub id or folder.

    audio_encoder: MERT, or anything of HuBERT's layout; any other encoder that AutoModel loads and that gives
        `last_hidden_state` for what its feature extractor gives. text_model: a causal language model with a chat
        template. window_s: seconds heard at a time. settings: fields of MertLMConfig, such as layer_mix and pooling.
    Raises ValueError for a part that is of another kind or lacks weights.
    """
    from .modeling_mert_lm import MertLMForConditionalGeneration  # which imports this file

    encoder = load_audio_encoder(audio_encoder, dtype)
    language_model = AutoModelForCausalLM.from_pretrained(text_model, dtype=dtype)
    extractor = load_feature_extractor(audio_encoder, window_s)
    tokenizer = load_tokenizer(text_model)
    config = MertLMConfig(
        audio_config=encoder.config,
        text_config=language_model.config,
        audio_model_id=audio_encoder,
        text_model_id=text_model,
        audio_frames=count_frames(encoder, extractor),
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKEN),
        decoder_start_token_id=chat_ids(tokenizer, system_prompt, "?")[-1],
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    model = MertLMForConditionalGeneration(config, encoder.eval(), language_model.eval())
    return model, MertLMProcessor(extractor, tokenizer, config.audio_positions, system_prompt)


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


def load_feature_extractor(source: str, window_s: float) -> FeatureExtractionMixin:
    """The encoder's own front end; that of waveforms gets a window."""
    found = AutoFeatureExtractor.from_pretrained(source)
    if isinstance(found, Wav2Vec2FeatureExtractor):
        return MertLMFeatureExtractor(found.sampling_rate, window_s, found.do_normalize)
    return found


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The language model's tokenizer with the placeholder of the audio added, which the model itself need not know."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.chat_template is None:
        raise ValueError(f"{source}: its tokenizer has no chat template: give a model that was trained to chat")
    tokenizer.add_special_tokens({"additional_special_tokens": [AUDIO_TOKEN]}, replace_extra_special_tokens=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # A pipeline wants it to be the front end's. Nothing here depends on it: masks say where the padding is.
    tokenizer.padding_side = "right"
    return tokenizer


@torch.no_grad()
def count_frames(encoder: PreTrainedModel, extractor: FeatureExtractionMixin) -> int:
    """Frames that the encoder gives for one window."""
    silence = torch.zeros(extractor.num_samples)
    features = torch.as_tensor(extractor.extract_mel(silence.numpy()))[None]
    return encoder.eval()(features.to(encoder.dtype)).last_hidden_state.shape[1]


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

"""Joins an audio encoder and a language model by their ids, and converts the original fork's projectors."""

import pickle
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCausalLM,
    AutoTokenizer,
    FeatureExtractionMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Wav2Vec2FeatureExtractor,
)

from .configuration_mert_lm import MertLMConfig
from .feature_extraction_mert_lm import MertLMFeatureExtractor
from .loading_mert_lm import find_encoder, load_audio_encoder
from .modeling_mert_lm import MertLMForConditionalGeneration
from .processing_mert_lm import AUDIO_TOKEN, SYSTEM_PROMPT, MertLMProcessor, chat_ids

LAYER = "inp_layer"  # the projector's name in the fork's checkpoints


def join_parts(
    audio_encoder: str,
    text_model: str,
    *,
    window_s: float = 10.0,
    system_prompt: str = SYSTEM_PROMPT,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> tuple[MertLMForConditionalGeneration, MertLMProcessor]:
    """Build a model, with a fresh projector, and its processor from two parts by Hub id or folder.

    audio_encoder: MERT, or anything of HuBERT's layout; any other encoder that AutoModel loads and that gives
        `last_hidden_state` for what its feature extractor, one of waveforms or of windows as descant's, gives; or
        "musicnn", which comes with descant.
    text_model: a causal language model with a chat template.
    window_s: seconds heard at a time. settings: fields of MertLMConfig, such as layer_mix and pooling.
    Raises ValueError for a part that is of another kind or lacks weights.
    """
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


def load_feature_extractor(source: str, window_s: float) -> FeatureExtractionMixin:
    """Load the encoder's own front end; one of waveforms gets a window. Raises ValueError for others without one."""
    extractor = AutoFeatureExtractor.from_pretrained(find_encoder(source))
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        return MertLMFeatureExtractor(extractor.sampling_rate, window_s, extractor.do_normalize)
    try:
        int(extractor.num_samples)
    except AttributeError as error:
        kind = type(extractor).__name__
        raise ValueError(f"{source}: {kind} hears no windows: give MERT, a HuBERT, LP-MusicCaps or musicnn") from error
    return extractor


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Load the language model's tokenizer, and add the placeholder of the audio, which the model need not know."""
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
    """Count the frames that the encoder gives for one window."""
    silence = torch.zeros(extractor.num_samples)
    features = torch.as_tensor(extractor.extract(silence.numpy()))[None]
    return encoder.eval()(features.to(encoder.dtype)).last_hidden_state.shape[1]


class ConversionError(ValueError):
    """A checkpoint cannot be converted; the message says why in one sentence."""


def convert_checkpoint(
    checkpoint: Path, audio_encoder: str, text_model: str, output: Path, **settings: Any
) -> MertLMForConditionalGeneration:
    """Write configuration, projector and processor to `output`, which names the parts; returns the model.

    settings: those of `join_parts`; without them each frame of the encoder's last state is used, as in the fork.
    Raises ConversionError where something cannot be read, and for weights that are unknown, missing or misshapen.
    """
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file: give a folder")
    weights = read_projector(checkpoint)
    try:
        model, processor = join_parts(
            audio_encoder, text_model, **{"layer_mix": "last", "pooling": "none", "projector": "linear", **settings}
        )
    except (OSError, ValueError) as error:
        raise ConversionError(f"{audio_encoder} and {text_model} cannot be joined: {first_line(error)}") from error
    projection: Any = model.projector.projection
    for name, own in (("weight", projection.weight), ("bias", projection.bias)):
        if weights[name].shape != own.shape:
            raise ConversionError(
                f"{LAYER}.{name} has shape {tuple(weights[name].shape)}, the parts make it {tuple(own.shape)}"
            )
    projection.load_state_dict({name: weight.float() for name, weight in weights.items()})
    output.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(output)
    model.save_pretrained(output)
    return model


def read_projector(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Read `weight` and `bias` of the projector, whatever prefix their names have; no code in the file is run."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConversionError(f"there is no file {checkpoint}") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(f"{checkpoint} is no pickle of weights alone; anything else could run code") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConversionError(f"{checkpoint} cannot be read as a checkpoint: {first_line(error)}") from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else {}
    parts: dict[str, torch.Tensor] = {}
    for name, weight in weights.items():
        layer, _, kind = name.rpartition(".")
        if layer.split(".")[-1] != LAYER or kind not in ("weight", "bias") or not torch.is_tensor(weight):
            raise ConversionError(f"{checkpoint} holds {name}, which is no part of a projector")
        if kind in parts:
            raise ConversionError(f"{checkpoint} holds two weights named {LAYER}.{kind}, {name} among them")
        parts[kind] = weight
    if missing := {"weight", "bias"} - parts.keys():
        raise ConversionError(f"{checkpoint} lacks {LAYER}.{sorted(missing)[0]}")
    return parts


def first_line(error: Exception) -> str:
    """Return the first line of an error's message: libraries add paragraphs of advice."""
    return str(error).strip().split("\n")[0].rstrip(".")

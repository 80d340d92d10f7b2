"""Turns a checkpoint of the reference (a pickle of a state dict) into a folder that from_pretrained loads."""

import os
import pickle
import tempfile
from pathlib import Path

import torch
from transformers import BartConfig, BartTokenizer

from .configuration_lp_music_caps import LPMusicCapsConfig
from .feature_extraction_lp_music_caps import LPMusicCapsFeatureExtractor, mel_filters
from .modeling_lp_music_caps import LPMusicCapsForConditionalGeneration
from .processing_lp_music_caps import LPMusicCapsProcessor

StateDict = dict[str, torch.Tensor]


class ConversionError(ValueError):
    """A checkpoint cannot be converted; the message says why in one sentence."""


def convert_checkpoint(checkpoint: Path, bart: str, output: Path) -> LPMusicCapsForConditionalGeneration:
    """Write model, configuration, generation settings, processor and tokenizer to `output`; returns the model.

    bart: a folder or Hub id with the config.json, vocab.json and merges.txt of the BART inside the checkpoint.
    Raises ConversionError where something cannot be read, and for every weight that is unknown, missing, misshapen or
    not what the reference fixes it to.
    """
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file: give a folder")
    config = read_config(bart)
    processor = LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), read_tokenizer(bart, config))
    weights = read_weights(checkpoint)
    model = build_model(config, bart)
    check_buffers(weights, fixed_buffers(model, processor.feature_extractor))
    load_weights(model, weights)
    # The settings of the published evaluations, also where --bart says otherwise.
    model.generation_config.update(forced_bos_token_id=0, forced_eos_token_id=2, decoder_start_token_id=2)
    save(model, processor, output)
    return model


def read_config(bart: str) -> LPMusicCapsConfig:
    """Take the model's sizes from a BART's configuration; its generation settings stay behind."""
    try:
        values, _ = BartConfig.get_config_dict(bart)
    except (OSError, ValueError) as error:
        raise ConversionError(f"no config.json in {bart}, as a folder or on the Hub: {first_line(error)}") from error
    if values.get("model_type", "bart") != "bart":
        raise ConversionError(f"{bart} holds a model of type {values['model_type']}, not bart")
    bart_config = BartConfig.from_dict(values)
    return LPMusicCapsConfig(**{name: getattr(bart_config, name) for name in BartConfig.__annotations__})


def build_model(config: LPMusicCapsConfig, bart: str) -> LPMusicCapsForConditionalGeneration:
    """Build the model that the weights go into."""
    try:
        return LPMusicCapsForConditionalGeneration(config)
    except ValueError as error:
        raise ConversionError(f"the sizes in {bart} make no model: {first_line(error)}") from error


def read_tokenizer(bart: str, config: LPMusicCapsConfig) -> BartTokenizer:
    """Load the tokenizer beside a BART's configuration."""
    try:
        tokenizer = BartTokenizer.from_pretrained(bart, model_max_length=config.max_position_embeddings)
    except (OSError, ValueError, TypeError) as error:
        raise ConversionError(f"no BART tokenizer in {bart}: {first_line(error)}") from error
    if len(tokenizer) != config.vocab_size:
        raise ConversionError(
            f"the tokenizer in {bart} has {len(tokenizer)} entries, its config.json says {config.vocab_size}: "
            "are vocab.json and merges.txt there?"
        )
    return tokenizer


def read_weights(checkpoint: Path) -> StateDict:
    """Read the state dict of a checkpoint, without running any code in it, and without the multi-GPU prefix."""
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConversionError(f"there is no file {checkpoint}") from error
    except pickle.UnpicklingError as error:
        raise ConversionError(f"{checkpoint} is no pickle of weights alone; anything else could run code") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise ConversionError(f"{checkpoint} cannot be read as a checkpoint: {first_line(error)}") from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise ConversionError(f"{checkpoint} holds no state_dict")
    refuse("the checkpoint has values that are no weights", {k for k, v in weights.items() if not torch.is_tensor(v)})
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): weight for name, weight in weights.items()}
    return weights


def fixed_buffers(model: LPMusicCapsForConditionalGeneration, extractor: LPMusicCapsFeatureExtractor) -> StateDict:
    """Name what the reference stores although it is fixed, with the values that this implementation computes."""
    filters = mel_filters(
        extractor.n_fft, extractor.num_mel_bins, extractor.sampling_rate, extractor.f_min, extractor.f_max
    )
    return {
        "audio_encoder.positional_embedding": model.audio_encoder.sinusoids,
        "audio_encoder.mel_encoder.spec_fn.window": torch.hann_window(extractor.n_fft),
        "audio_encoder.mel_encoder.mel_scale.fb": filters,
    }


def check_buffers(weights: StateDict, buffers: StateDict) -> None:
    """Take the fixed buffers out of `weights`; refuses values other than ours, which would mean another front end."""
    for name, ours in buffers.items():
        stored = weights.pop(name, None)
        if stored is None:
            raise ConversionError(f"the checkpoint lacks {name}")
        if stored.shape != ours.shape or not torch.allclose(stored.float(), ours, atol=1e-5):
            raise ConversionError(f"{name} is not what this model computes: the checkpoint has another front end")


def load_weights(model: LPMusicCapsForConditionalGeneration, weights: StateDict) -> None:
    """Fill the model; every weight must be known, present, of the right shape and equal to those tied to it."""
    target = model.state_dict()
    source = {name: name if name.startswith("audio_encoder.") else f"bart.{name}" for name in target}
    refuse("the checkpoint has weights that the model does not", weights.keys() - set(source.values()))
    refuse("the checkpoint lacks weights of the model", set(source.values()) - weights.keys())
    for name, stored in source.items():
        if weights[stored].shape != target[name].shape:
            raise ConversionError(
                f"{stored} has shape {tuple(weights[stored].shape)}, --bart makes it {tuple(target[name].shape)}"
            )
    for tied, original in model.all_tied_weights_keys.items():
        if not torch.equal(weights[source[tied]], weights[source[original]]):
            raise ConversionError(f"{source[tied]} differs from {source[original]}, to which it is tied")
    model.load_state_dict({name: weights[stored].float() for name, stored in source.items()})


def refuse(reason: str, names: set[str]) -> None:
    """Raise ConversionError with all names, if there are any."""
    if names:
        raise ConversionError(f"{reason}: {', '.join(sorted(map(str, names)))}")


def save(model: LPMusicCapsForConditionalGeneration, processor: LPMusicCapsProcessor, output: Path) -> None:
    """Save both beside the output folder first, then move file by file, so that no file there is ever half written."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        for file in Path(folder).iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(output / file.name)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message: libraries add paragraphs of advice."""
    return str(error).strip().split("\n")[0].rstrip(".")

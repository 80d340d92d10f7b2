"""Keeps each model's packed weights, and packs anew when its own have changed."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import BartForConditionalGeneration

from .fast_decoder_lp_music_caps import FastDecoder
from .fast_encoder_lp_music_caps import FastEncoder
from .generation_settings_lp_music_caps import NotCovered


@dataclass(frozen=True)
class PackedModel:
    """What answers questions fast."""

    encoder: FastEncoder
    decoder: FastDecoder


# Beside the models, not in them: packed weights can neither be copied nor saved.
_packed: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, PackedModel]]" = weakref.WeakKeyDictionary()


def packed_model(
    model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: Sequence[int] | None = None
) -> PackedModel:
    """The packed weights of a model, from memory if they are the last ones packed and the model's are the same still.

    vocabulary: the token ids, in order, that answers may have. Raises NotCovered where the model is not one that can
    be packed.
    """
    check_packable(model)
    marks = tier, None if vocabulary is None else tuple(vocabulary), fingerprint(model)
    known, packed = _packed.get(model, (None, None))
    if known != marks:
        decoder = FastDecoder(model, tier, None if vocabulary is None else torch.tensor(vocabulary))
        packed = PackedModel(FastEncoder(model, tier), decoder)
        _packed[model] = marks, packed
    return packed


def check_packable(model: BartForConditionalGeneration) -> None:
    """Raise NotCovered unless this is a plain float32 model on a CPU, ready to answer."""
    parts = [*model.model.encoder.layers.modules(), *model.model.decoder.layers.modules(), model.lm_head]
    devices = {weight.device.type for part in parts for weight in part.parameters(recurse=False)}
    changed = [type(part).__name__ for part in parts if isinstance(part, nn.Linear) and type(part) is not nn.Linear]
    reasons = {
        f"weights on {', '.join(sorted(devices))}": devices != {"cpu"},
        f"weights of {model.dtype}": model.dtype != torch.float32,
        "training mode": model.training,
        "autocast": torch.is_autocast_enabled("cpu"),
        "a torch without oneDNN": not torch.backends.mkldnn.is_available(),
        f"activation {model.config.activation_function}": model.config.activation_function != "gelu",
        f"layers of type {', '.join(sorted(set(changed)))}": bool(changed),
    }
    for reason, found in reasons.items():
        if found:
            raise NotCovered(reason)


def fingerprint(model: BartForConditionalGeneration) -> tuple:
    """Marks that change with the packed weights, however those are changed.

    An optimizer raises a tensor's version, but code that writes through `.data` does not: hence some values as well.
    """
    layers = [*model.model.encoder.layers.parameters(), *model.model.decoder.layers.parameters()]
    weights = [*layers, model.lm_head.weight, model.final_logits_bias]
    values = [weight.detach().flatten()[:: max(1, weight.numel() // 16)] for weight in weights]
    places = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return places, torch.cat(values).numpy().tobytes()

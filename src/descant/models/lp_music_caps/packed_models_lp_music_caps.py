"""Keeps each model's packed decoder, and packs anew when its weights have changed."""

import weakref
from collections.abc import Sequence

import torch
from torch import nn
from transformers import BartForConditionalGeneration

from .fast_decoder_lp_music_caps import FastDecoder
from .generation_settings_lp_music_caps import NotCovered

# Beside the models, not in them: packed weights can neither be copied nor saved.
_decoders: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, FastDecoder]]" = weakref.WeakKeyDictionary()


def packed_decoder(
    model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: Sequence[int] | None = None
) -> FastDecoder:
    """The packed decoder of a model, from memory if it is the last one packed and the weights are still the same.

    vocabulary: the token ids, in order, that answers may have. Raises NotCovered where the model is not one that can
    be packed.
    """
    check_packable(model)
    marks = tier, None if vocabulary is None else tuple(vocabulary), fingerprint(model)
    known, decoder = _decoders.get(model, (None, None))
    if known != marks:
        decoder = FastDecoder(model, tier, None if vocabulary is None else torch.tensor(vocabulary))
        _decoders[model] = marks, decoder
    return decoder


def check_packable(model: BartForConditionalGeneration) -> None:
    """Raise NotCovered unless this is a plain float32 model on a CPU, ready to answer."""
    parts = [*model.model.decoder.layers.modules(), model.lm_head]
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
    weights = [*model.model.decoder.layers.parameters(), model.lm_head.weight, model.final_logits_bias]
    values = [weight.detach().flatten()[:: max(1, weight.numel() // 64)].double().sum() for weight in weights]
    places = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return places, tuple(torch.stack(values).tolist())

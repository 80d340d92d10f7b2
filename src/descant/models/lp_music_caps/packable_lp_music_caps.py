"""Which models packed weights can stand for: those whose parts are BART's own, unchanged."""

import torch
from torch import nn
from transformers import BartForConditionalGeneration
from transformers.activations import GELUActivation
from transformers.models.bart import modeling_bart as bart

from .generation_settings_lp_music_caps import NotCovered

KINDS = {
    nn.Linear, nn.LayerNorm, nn.ModuleList, GELUActivation, bart.BartAttention, bart.BartEncoder, bart.BartDecoder,
    bart.BartEncoderLayer, bart.BartDecoderLayer, bart.BartLearnedPositionalEmbedding, bart.BartScaledWordEmbedding,
}  # fmt: skip


def check_packable(model: BartForConditionalGeneration) -> None:
    """Raise NotCovered unless this is a plain float32 model on a CPU or a GPU, ready to answer."""
    parts = [*model.model.encoder.modules(), *model.model.decoder.modules(), model.lm_head]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    devices = {str(weight.device) for weight in weights}
    dtypes = {str(weight.dtype) for weight in weights} - {"torch.float32"}
    others = {type(part).__name__ for part in parts if type(part) not in KINDS}
    others |= {type(weight).__name__ for weight in weights if type(weight) is not nn.Parameter}
    reasons = {
        f"layers of type {', '.join(sorted(others))}": bool(others),
        f"weights on {', '.join(sorted(devices))}": len(devices) > 1 or model.device.type not in ("cpu", "cuda"),
        f"weights of {', '.join(sorted(dtypes))}": bool(dtypes),
        "training mode": any(part.training for part in parts),
        "hooks on layers": any(map(is_hooked, parts)),
        "a bias of the vocabulary head": getattr(model.lm_head, "bias", None) is not None,
        "autocast": torch.is_autocast_enabled(model.device.type),
        "a torch without oneDNN": model.device.type == "cpu" and not torch.backends.mkldnn.is_available(),
    }
    for reason, found in reasons.items():
        if found:
            raise NotCovered(reason)


def is_hooked(part: nn.Module) -> bool:
    """Whether something else than the part's own `forward` has a say in what comes out of it."""
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    # transformers' own, once it was asked for hidden states, stay where they are and do nothing.
    theirs = "transformers.utils.output_capturing"
    return "forward" in vars(part) or any(getattr(hook, "__module__", None) != theirs for hook in hooks)

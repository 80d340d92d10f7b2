"""Decides which models can be packed, caches their packed weights, and packs again when their own have changed."""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import BartForConditionalGeneration
from transformers.activations import GELUActivation
from transformers.models.bart import modeling_bart as bart

from .cuda_engine_lp_music_caps import StaticEngine, round_up, slots_that_fit
from .engine_lp_music_caps import AnswerEngine
from .generation_settings_lp_music_caps import AnswerSettings, NotCovered
from .packed_bart_lp_music_caps import FastDecoder, FastEncoder, computes_correctly, encoding_tier

KINDS = {
    nn.Linear, nn.LayerNorm, nn.ModuleList, GELUActivation, bart.BartAttention, bart.BartEncoder, bart.BartDecoder,
    bart.BartEncoderLayer, bart.BartDecoderLayer, bart.BartLearnedPositionalEmbedding, bart.BartScaledWordEmbedding,
}  # fmt: skip


def check_packable(model: BartForConditionalGeneration, tier: str = "fp32") -> None:
    """Raise NotCovered unless this is a plain float32 model on a CPU or a GPU, ready to answer.

    On a CPU, the layers of the tier must also work with this version of torch.
    """
    parts = [*model.model.encoder.modules(), *model.model.decoder.modules(), model.lm_head]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    devices = {str(weight.device) for weight in weights}
    dtypes = {str(weight.dtype) for weight in weights} - {"torch.float32"}
    others = {type(part).__name__ for part in parts if type(part) not in KINDS}
    others |= {type(weight).__name__ for weight in weights if type(weight) is not nn.Parameter}
    known = model.device.type in ("cpu", "cuda")
    reasons = {
        f"layers of type {', '.join(sorted(others))}": bool(others),
        f"weights on {', '.join(sorted(devices))}": len(devices) > 1 or not known,
        f"weights of {', '.join(sorted(dtypes))}": bool(dtypes),
        "training mode": any(part.training for part in parts),
        "hooks on layers": any(map(is_hooked, parts)),
        "a forward that was replaced": is_replaced(model),
        "a bias of the vocabulary head": getattr(model.lm_head, "bias", None) is not None,
        "autocast": known and torch.is_autocast_enabled(model.device.type),
        "a torch without oneDNN": model.device.type == "cpu" and not torch.backends.mkldnn.is_available(),
    }
    for reason, holds in reasons.items():
        if holds:
            raise NotCovered(reason)
    tiers = {tier, encoding_tier(tier, model.device)}
    if model.device.type == "cpu" and not all(map(computes_correctly, tiers)):
        raise NotCovered(f"the oneDNN of torch {torch.__version__} (its operators are not those that were tested)")


def is_hooked(part: nn.Module) -> bool:
    """Return whether anything but the part's own `forward` changes what comes out of it."""
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]
    # transformers' own, once it was asked for hidden states, stay where they are and do nothing.
    theirs = "transformers.utils.output_capturing"
    return "forward" in vars(part) or any(getattr(hook, "__module__", None) != theirs for hook in hooks)


def is_replaced(model: nn.Module) -> bool:
    """Return whether calls of the model's `forward` are watched or changed, as an exporter or a compiler does.

    Not counted: accelerate's wrapper for mixed precision, which training leaves on the model that it validates.
    """
    forward = vars(model).get("forward")
    own = forward is None or getattr(forward, "__func__", None) is type(model).forward
    return not own and "_original_forward" not in vars(model)


class PackedModel:
    """A model's packed encoder, and its decoders, which are packed at their first use."""

    def __init__(self, model: BartForConditionalGeneration, tier: str, vocabulary: Sequence[int] | None) -> None:
        self.reference = weakref.ref(model)
        self.on_cpu = model.device.type == "cpu"
        self.tier = tier
        self.vocabulary = None if vocabulary is None else torch.tensor(vocabulary, device=model.device)
        self.encoder = FastEncoder(model, tier)
        self.decoders: dict[int | None, FastDecoder] = {}
        self.idle: tuple[AnswerSettings, StaticEngine] | None = None

    def engine(
        self,
        settings: AnswerSettings,
        slots: int,
        on_token: Callable[[torch.Tensor], None] | None = None,
        refilled: bool = False,
    ) -> AnswerEngine:
        """Return an engine that answers up to `slots` questions at once.

        on_token: with one question and one beam, receives each new token.
        refilled: whether there are more questions than slots, so that mostly all slots are in use.
        """
        if not self.on_cpu:
            return self._static_engine(settings, slots, on_token)
        rows = slots * settings.num_beams
        if self.tier != "fp32" or rows == 1 or not (slots == 1 or refilled):
            return AnswerEngine(self.decoder(), settings, slots, on_token)
        full = self.decoder(rows)
        return AnswerEngine(full if slots == 1 else self.decoder(), settings, slots, on_token, full)

    def decoder(self, rows: int | None = None) -> FastDecoder:
        """Return the decoder for any number of hypotheses a step, or the faster one for always `rows` of them.

        Two are kept: those for any number, and for the number that was asked for last.
        """
        if rows not in self.decoders:
            model = self.reference()
            if model is None:
                raise RuntimeError("the model was deleted while its packed weights were in use")
            self.decoders = {count: decoder for count, decoder in self.decoders.items() if count is None}
            self.decoders[rows] = FastDecoder(model, self.tier, self.vocabulary, rows)
        return self.decoders[rows]

    @torch.inference_mode(False)  # or the engine could not be used outside of that mode
    def _static_engine(
        self, settings: AnswerSettings, slots: int, on_token: Callable[[torch.Tensor], None] | None
    ) -> StaticEngine:
        """Return an engine for a GPU: the last one, with what it has recorded, if it fits and is free."""
        if settings.do_sample:  # a draw takes its numbers for so many questions, and stores which are done
            return StaticEngine(self.decoder(), settings, slots, on_token)
        slots = min(round_up(slots, 1), slots_that_fit(self.decoder(), settings))
        known, engine = self.idle or (None, None)
        fits = engine is not None and known == settings and engine.slots >= slots
        if engine is None or not (fits and engine.in_use.acquire(blocking=False)):
            self.idle = engine = None  # freed before the next one is built
            engine = StaticEngine(self.decoder(), settings, slots)
            engine.in_use.acquire()
            self.idle = settings, engine
        engine.on_token = on_token
        return engine


# Beside the models, not in them: packed weights can neither be copied nor saved.
_packed: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, PackedModel | None]]" = weakref.WeakKeyDictionary()


def packed_model(
    model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: Sequence[int] | None = None
) -> PackedModel:
    """Return the packed weights of a model: the last ones if the model's have not changed since, else new ones.

    vocabulary: the token ids, in order, that answers may have. Raises NotCovered where the model is not one that can
    be packed.
    """
    check_packable(model, tier)
    key = tier, None if vocabulary is None else tuple(vocabulary), mark_weights(model)
    known, packed = _packed.get(model, (None, None))
    if packed is None or known != key:
        packed = None
        forget_packed(model)  # before the next ones take their memory
        packed = PackedModel(model, tier, vocabulary)
        _packed[model] = key, packed
    return packed


def forget_packed(model: BartForConditionalGeneration) -> None:
    """Drop a model's packed weights."""
    _packed.pop(model, None)


def mark_weights(model: BartForConditionalGeneration) -> tuple:
    """Return values that change with the packed weights: addresses, versions and samples of the weights themselves.

    An optimizer raises a tensor's version, but code that writes through `.data` does not: hence the samples. A change
    of few entries through `.data` is not detected: call `forget_packed` after it.
    """
    coders = model.model.encoder, model.model.decoder
    parts = [(coder.layers, coder.layernorm_embedding, coder.embed_positions) for coder in coders]
    weights = [weight for group in parts for part in group for weight in part.parameters()]
    weights += [model.model.decoder.embed_tokens.weight, model.lm_head.weight, model.final_logits_bias]
    values = [weight.detach().flatten()[:: max(1, weight.numel() // 16)] for weight in weights]
    versions = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return versions, torch.cat(values).cpu().numpy().tobytes()

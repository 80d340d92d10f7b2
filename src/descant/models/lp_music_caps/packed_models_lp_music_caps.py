"""Keeps each model's packed weights, and packs anew when its own have changed."""

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
    """Whether something else than the part's own `forward` has a say in what comes out of it."""
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
    """What answers questions fast: an encoder, and decoders that are packed when they are first wanted."""

    def __init__(self, model: BartForConditionalGeneration, tier: str, vocabulary: Sequence[int] | None) -> None:
        self.model = weakref.ref(model)
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
        """What answers up to `slots` questions at a time: of the tokens of one without beams, `on_token` is told.

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
        """The decoder for any number of hypotheses a step, or the faster one for always `rows` of them.

        Two are kept: those for any number, and for the number that was asked for last.
        """
        if rows not in self.decoders:
            self.decoders = {kept: decoder for kept, decoder in self.decoders.items() if kept is None}
            self.decoders[rows] = FastDecoder(self.model(), self.tier, self.vocabulary, rows)
        return self.decoders[rows]

    @torch.inference_mode(False)  # or the engine could not be used outside of that mode
    def _static_engine(
        self, settings: AnswerSettings, slots: int, on_token: Callable[[torch.Tensor], None] | None
    ) -> StaticEngine:
        """An engine for a GPU: the last one again, with what it has recorded, if it suits and is free."""
        if settings.do_sample:  # a draw takes its numbers for so many questions, and remembers who is done
            return StaticEngine(self.decoder(), settings, slots, on_token)
        slots = min(round_up(slots, 1), slots_that_fit(self.decoder(), settings))
        known, engine = self.idle or (None, None)
        if known != settings or engine.slots < slots or not engine.taken.acquire(blocking=False):
            self.idle = engine = None  # gone before the next one is built
            engine = StaticEngine(self.decoder(), settings, slots)
            engine.taken.acquire()
            self.idle = settings, engine
        engine.on_token = on_token
        return engine


# Beside the models, not in them: packed weights can neither be copied nor saved.
_packed: "weakref.WeakKeyDictionary[nn.Module, tuple[tuple, PackedModel]]" = weakref.WeakKeyDictionary()


def packed_model(
    model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: Sequence[int] | None = None
) -> PackedModel:
    """The packed weights of a model, from memory if they are the last ones packed and the model's are the same still.

    vocabulary: the token ids, in order, that answers may have. Raises NotCovered where the model is not one that can
    be packed.
    """
    check_packable(model, tier)
    marks = tier, None if vocabulary is None else tuple(vocabulary), fingerprint(model)
    known, packed = _packed.get(model, (None, None))
    if known != marks:
        packed = None
        forget_packed(model)  # before the next ones take their memory
        packed = PackedModel(model, tier, vocabulary)
        _packed[model] = marks, packed
    return packed


def forget_packed(model: BartForConditionalGeneration) -> None:
    """Let go of a model's packed weights."""
    _packed.pop(model, None)


def fingerprint(model: BartForConditionalGeneration) -> tuple:
    """Marks that change with the packed weights.

    An optimizer raises a tensor's version, but code that writes through `.data` does not: hence some values as well. A
    change of few entries through `.data` goes unseen: `forget_packed` is for those who make such.
    """
    coders = model.model.encoder, model.model.decoder
    parts = [(coder.layers, coder.layernorm_embedding, coder.embed_positions) for coder in coders]
    weights = [weight for group in parts for part in group for weight in part.parameters()]
    weights += [model.model.decoder.embed_tokens.weight, model.lm_head.weight, model.final_logits_bias]
    values = [weight.detach().flatten()[:: max(1, weight.numel() // 16)] for weight in weights]
    places = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    return places, torch.cat(values).cpu().numpy().tobytes()

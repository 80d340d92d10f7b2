"""BART for a few rows at a time: linear layers in three precisions, and the encoder and decoder built of them.

On a CPU, weights are laid out once as oneDNN's kernels need them; `computes_correctly` tests those kernels.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial

import torch
from torch import nn
from torch.nn.functional import embedding, gelu, linear, scaled_dot_product_attention
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import BartDecoderLayer, BartEncoderLayer

from .decoder_cache_lp_music_caps import DecoderCache, StaticCache
from .search_lp_music_caps import BLOCK

# Padding, stride, dilation and groups of a 1 × 1 convolution.
PIXELS = [0, 0], [1, 1], [1, 1], 1
# Of layers whose results are about 1: how far each tier's may lie from F.linear's.
SELF_TEST_TOLERANCES = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.15}
SELF_TEST_ROWS, SELF_TEST_WIDTH = 5, 64


class PackedLinear:
    """Computes x · Wᵀ + b on a CPU, without gradients, from a packed copy of one or several stacked weights.

    A product of few rows takes most of its time to reorder the weight into the kernel's layout: packed once, 5 rows
    of BART's vocabulary head take a third of the time, 160 rows two thirds. A row's result does not depend on the
    other rows.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        weight = weights[0].detach() if len(weights) == 1 else torch.cat([weight.detach() for weight in weights])
        self.bias = torch.cat([bias.detach() for bias in biases])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, activation, [], "none")

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out), in one pass."""
        return torch.ops.mkldnn._linear_pointwise.binary(rows, residual, self.weight, self.bias, "add")


class FixedRowsLinear:
    """PackedLinear for a fixed number of rows: a 1 × 1 convolution over an image with one pixel a row.

    oneDNN's convolutions take five sixths of the time of its products, with 5 rows of BART's decoder as with 160. The
    weight's layout depends on the number of rows, and another number would reorder it at each call.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], rows: int) -> None:
        weight = torch.cat([weight.detach() for weight in weights])
        shape = [1, weight.shape[1], 1, rows]
        self.bias = torch.cat([bias.detach() for bias in biases])
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight[:, :, None, None], *PIXELS, shape)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        packed = self.weight, self.bias, *PIXELS
        return as_rows(torch.ops.mkldnn._convolution_pointwise(as_image(rows), *packed, activation, [], "none"))

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out), in one pass."""
        packed = self.weight, self.bias, *PIXELS
        both = as_image(rows), as_image(residual)
        return as_rows(torch.ops.mkldnn._convolution_pointwise.binary(*both, *packed, "add", None, None, [], None))


def as_image(rows: torch.Tensor) -> torch.Tensor:
    """View contiguous rows (count, width) as a channels-last image (1, width, 1, count)."""
    count, width = rows.shape
    return rows.as_strided((1, width, 1, count), (count * width, 1, count * width, width))


def as_rows(image: torch.Tensor) -> torch.Tensor:
    """View an image (1, width, 1, count) as rows (count, width): the inverse of `as_image`."""
    _, width, _, count = image.shape
    return image.as_strided((count, width), (width, 1))


class StackedLinear:
    """PackedLinear's counterpart on a GPU, which takes weights as they are, in the precision that is asked for."""

    def __init__(
        self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], dtype: torch.dtype = torch.float32
    ) -> None:
        self.weight = torch.cat([weight.detach() for weight in weights]).to(dtype)
        self.bias = torch.cat([bias.detach() for bias in biases]).to(dtype)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        result = linear(rows.to(self.weight.dtype), self.weight, self.bias).to(rows.dtype)
        return gelu(result) if activation == "gelu" else result

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out)."""
        return residual + self(rows)


class Bfloat16Linear:
    """PackedLinear with weights, products and results in bfloat16; twice as fast where the processor supports it."""

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        self.packed = PackedLinear([weight.bfloat16() for weight in weights], [bias.bfloat16() for bias in biases])

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        return self.packed(rows.bfloat16(), activation).float()

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out)."""
        return residual + self(rows)


class Int8Linear:
    """Weights in 8 bits, with a scale for each output; rows are rounded as they come, each with a scale of its own,
    so that a row's result does not depend on the other rows.

    Without VNNI, products are accumulated pairwise in int16, so 8-bit rows could overflow: rows then take 7 bits.
    """

    def __init__(self, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> None:
        self.zero = 128 if torch.cpu._is_vnni_supported() else 64  # stands for 0: the kernels take unsigned rows
        weight = torch.cat([part.detach() for part in weights])
        self.bias = torch.cat([part.detach() for part in biases])
        self.scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12)
        self.zeros = torch.zeros_like(self.scales, dtype=torch.int32)
        rounded = (weight / self.scales[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(rounded, None)

    def __call__(self, rows: torch.Tensor, activation: str = "none") -> torch.Tensor:
        """Map rows (count, in) to (count, out); activation "gelu" is the exact one."""
        scales = (rows.abs().amax(dim=1, keepdim=True) / (self.zero - 1)).clamp_(min=1e-12)
        rounded = (rows / scales).round_().add_(self.zero).to(torch.uint8)
        weight = (self.weight, self.scales, self.zeros, None)
        result = torch.ops.onednn.qlinear_pointwise(
            rounded, 1.0, self.zero, *weight, 1.0, 0, torch.float32, "none", [], ""
        )
        result = torch.addcmul(self.bias, result, scales)
        return gelu(result) if activation == "gelu" else result

    def add_to(self, residual: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Map rows and add the result to residual (count, out)."""
        return residual + self(rows)


Linear = PackedLinear | FixedRowsLinear | StackedLinear | Bfloat16Linear | Int8Linear

TIERS: dict[str, type[PackedLinear] | type[Bfloat16Linear] | type[Int8Linear]] = {
    "fp32": PackedLinear,
    "bf16": Bfloat16Linear,
    "int8": Int8Linear,
}


def has_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Return whether a GPU, or this processor, multiplies bfloat16 numbers."""
    if torch.device(device).type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    except (AttributeError, RuntimeError):  # a torch without this operator
        return False


@cache
def computes_correctly(tier: str) -> bool:
    """Return whether a tier's packed layers agree with F.linear on this CPU; tried once a process.

    The layers call operators of torch that are not public, so any version may rename, change or drop them.
    """
    kinds = [TIERS[tier], *([partial(FixedRowsLinear, rows=SELF_TEST_ROWS)] if tier == "fp32" else [])]
    try:
        with torch.inference_mode():
            return all(agrees_with_linear(kind, SELF_TEST_TOLERANCES[tier]) for kind in kinds)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False


def agrees_with_linear(kind: Callable[..., Linear], tolerance: float) -> bool:
    """Return whether a small layer of a kind gives results, activations and sums within `tolerance` of F.linear's."""
    sizes = (SELF_TEST_WIDTH, SELF_TEST_WIDTH), (SELF_TEST_WIDTH,), (SELF_TEST_ROWS, SELF_TEST_WIDTH)
    numbers = (torch.arange(math.prod(size), dtype=torch.float32, device="cpu").view(size) for size in sizes)
    weight, bias, rows = (part.sin() * scale for part, scale in zip(numbers, (0.2, 1.0, 1.0), strict=True))
    layer, expected = kind([weight], [bias]), linear(rows, weight, bias)
    pairs = (layer(rows), expected), (layer(rows, "gelu"), gelu(expected)), (layer.add_to(rows, rows), rows + expected)
    return all(torch.allclose(*pair, rtol=0, atol=tolerance) for pair in pairs)


def check_tier(tier: str, device: torch.device | str = "cpu") -> None:
    """Raise ValueError for a tier that does not exist, or not on this device."""
    if tier not in TIERS:
        raise ValueError(f"there is no tier {tier!r}: choose one of {', '.join(TIERS)}")
    if tier == "int8" and torch.device(device).type != "cpu":
        raise ValueError(f"tier 'int8' needs a CPU, and the model is on {device}: choose 'bf16' or 'fp32'")
    if tier == "bf16" and not has_bfloat16(device):
        needed = "a processor with AVX-512 or AVX-NE-CONVERT: choose 'int8' or 'fp32'"
        if torch.device(device).type == "cuda":
            needed = "a GPU with bfloat16 (Ampere or newer): choose 'fp32'"
        raise ValueError(f"tier 'bf16' needs {needed}")


def encoding_tier(tier: str, device: torch.device | str = "cpu") -> str:
    """Return the precision in which a tier encodes: bfloat16 below fp32, where the device supports it."""
    return "bf16" if tier != "fp32" and has_bfloat16(device) else "fp32"


def lower_precision(tier: str, device: torch.device | str = "cpu") -> AbstractContextManager:
    """Return the context in which a tier encodes: autocast to bfloat16, or none that changes anything."""
    if encoding_tier(tier, device) == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def new_linear(
    tier: str, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor], rows: int | None = None
) -> Linear:
    """Stack weights in one of the TIERS; rows: how many rows they always get, if that is known."""
    if weights[0].device.type != "cpu":
        return StackedLinear(weights, biases, torch.bfloat16 if tier == "bf16" else torch.float32)
    if tier == "fp32" and rows is not None:
        return FixedRowsLinear(weights, biases, rows)
    return TIERS[tier](weights, biases)


def pack(tier: str, *layers: nn.Linear, rows: int | None = None) -> Linear:
    """Pack layers that share their input into one."""
    return new_linear(tier, [layer.weight for layer in layers], [layer.bias for layer in layers], rows)


class FastLayer:
    """One decoder layer's packed weights."""

    def __init__(self, layer: BartDecoderLayer, tier: str, rows: int | None) -> None:
        own, cross = layer.self_attn, layer.encoder_attn
        self.qkv = pack(tier, own.q_proj, own.k_proj, own.v_proj, rows=rows)
        self.out = pack(tier, own.out_proj, rows=rows)
        self.norm = Norm(layer.self_attn_layer_norm)
        self.cross_q = pack(tier, cross.q_proj, rows=rows)
        self.cross_out = pack(tier, cross.out_proj, rows=rows)
        self.cross_norm = Norm(layer.encoder_attn_layer_norm)
        self.fc1 = pack(tier, layer.fc1, rows=rows)
        self.fc2 = pack(tier, layer.fc2, rows=rows)
        self.final_norm = Norm(layer.final_layer_norm)


class FastDecoder:
    """The decoder and the vocabulary head of a model, packed.

    vocabulary: the token ids that answers may have; all of them without it. Inside, a token is its index in this list.
    rows: how many hypotheses each step has, if that never changes: then steps are faster.
    """

    def __init__(
        self,
        model: BartForConditionalGeneration,
        tier: str = "fp32",
        vocabulary: torch.Tensor | None = None,
        rows: int | None = None,
    ) -> None:
        decoder = model.model.decoder
        self.heads = model.config.decoder_attention_heads
        self.head_dim = model.config.d_model // self.heads
        self.vocabulary = vocabulary
        self.vocab_size = model.config.vocab_size if vocabulary is None else len(vocabulary)
        self.tokens, self.positions = decoder.embed_tokens, decoder.embed_positions
        self.norm = Norm(decoder.layernorm_embedding)
        self.layers = [FastLayer(layer, tier, rows) for layer in decoder.layers]
        crosses = (layer.encoder_attn for layer in decoder.layers)
        self.cross_kv = pack(tier, *(part for attention in crosses for part in (attention.k_proj, attention.v_proj)))
        self.head = pack_head(model, tier, vocabulary, rows)

    def new_cache(self, slots: int, beams: int) -> DecoderCache:
        """Build an empty cache of the model's sizes."""
        return DecoderCache(len(self.layers), slots, beams, self.heads, self.head_dim, self.tokens.weight.dtype)

    def new_static_cache(self, slots: int, beams: int, length: int) -> StaticCache:
        """Build an empty cache of fixed shapes for answers of up to `length` tokens."""
        sizes = len(self.layers), slots, beams, self.heads, self.head_dim
        return StaticCache(*sizes, length, self.tokens.weight.dtype, self.device)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.tokens.weight.device

    def open_slot(self, cache: DecoderCache | StaticCache, slot: int, states: torch.Tensor) -> None:
        """Give a slot to a question with the encoder states (length, d_model)."""
        length = len(states)
        cache.open(slot, length)
        shape = length, len(self.layers), 2, self.heads, self.head_dim
        keys, values = self.cross_kv(states).view(shape).unbind(2)
        cache.cross_keys[:, slot, :, :, :length] = keys.permute(1, 2, 3, 0)
        cache.cross_values[:, slot, :, :length] = values.permute(1, 2, 0, 3)

    def step(self, cache: DecoderCache | StaticCache, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Decode one token a row: tokens and positions (active, beams), with their nodes in the mask already.

        Returns the last hidden states (active · beams, d_model).
        """
        active = len(tokens)
        known = tokens if self.vocabulary is None else self.vocabulary[tokens]
        hidden = self.tokens(known) + nn.functional.embedding(positions + self.positions.offset, self.positions.weight)
        hidden = self.norm(hidden).flatten(0, 1)  # (active · beams, d_model)
        mask = cache.history(active)[:, None]
        cross_mask = cache.cross_mask[:active, None]
        for index, layer in enumerate(self.layers):
            queries, keys, values = layer.qkv(hidden).view(active, cache.beams, 3, self.heads, self.head_dim).unbind(2)
            attended = self.attend(queries, *cache.extend(index, keys, values), mask)
            hidden = layer.norm(layer.out.add_to(hidden, attended))
            queries = layer.cross_q(hidden).view(active, cache.beams, self.heads, self.head_dim)
            keys, values = cache.cross_keys[index, :active], cache.cross_values[index, :active]
            attended = self.attend(queries, keys, values, cross_mask)
            hidden = layer.cross_norm(layer.cross_out.add_to(hidden, attended))
            hidden = layer.final_norm(layer.fc2.add_to(hidden, layer.fc1(hidden, "gelu")))
        return hidden

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Attend with all beams of a question at once.

        queries (active, beams, heads, head_dim), keys (active, heads, head_dim, n), values (active, heads, n,
        head_dim), mask broadcastable to (active, heads, beams, n) → (active · beams, d_model).
        """
        queries = queries.transpose(1, 2) * (1 / math.sqrt(self.head_dim))
        weights = (queries @ keys).add_(mask).softmax(dim=-1)
        return (weights @ values).transpose(1, 2).flatten(2).flatten(0, 1)


class Norm:
    """A layer norm without a module: attribute look-ups of one take longer than to normalise a few rows."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        self.parts = layer.normalized_shape, layer.weight.detach(), layer.bias.detach(), layer.eps

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise hidden states (…, d_model)."""
        return torch.layer_norm(hidden, *self.parts)


def pack_head(
    model: BartForConditionalGeneration, tier: str, vocabulary: torch.Tensor | None, rows: int | None
) -> Linear:
    """Pack the vocabulary head with `final_logits_bias`, padded to whole blocks by tokens of logit -inf."""
    weight, bias = model.lm_head.weight.detach(), model.final_logits_bias.detach()[0]
    if vocabulary is not None:
        weight, bias = weight[vocabulary], bias[vocabulary]
    missing = -len(weight) % BLOCK
    padding = weight.new_zeros(missing, weight.shape[1]), bias.new_full((missing,), float("-inf"))
    return new_linear(tier, [weight, padding[0]], [bias, padding[1]], rows)


class FastEncoderLayer:
    """One encoder layer's packed weights."""

    def __init__(self, layer: BartEncoderLayer, tier: str) -> None:
        own = layer.self_attn
        self.qkv = pack(tier, own.q_proj, own.k_proj, own.v_proj)
        self.out = pack(tier, own.out_proj)
        self.norm = Norm(layer.self_attn_layer_norm)
        self.fc1 = pack(tier, layer.fc1)
        self.fc2 = pack(tier, layer.fc2)
        self.final_norm = Norm(layer.final_layer_norm)


class FastEncoder:
    """The encoder of a model, packed; it is called as the model's own is.

    The lower tiers encode in bfloat16 where the device supports it.
    """

    def __init__(self, model: BartForConditionalGeneration, tier: str = "fp32") -> None:
        encoder = model.model.encoder
        self.heads = model.config.encoder_attention_heads
        self.positions, self.norm = encoder.embed_positions, Norm(encoder.layernorm_embedding)
        tier = encoding_tier(tier, model.device)
        self.layers = [FastEncoderLayer(layer, tier) for layer in encoder.layers]

    def __call__(
        self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor, return_dict: bool = True
    ) -> BaseModelOutput:
        """Encode embeddings (batch, length, d_model) at the positions that the mask (batch, length) leaves in."""
        batch, length, width = inputs_embeds.shape
        positions = torch.arange(length, device=inputs_embeds.device) + self.positions.offset
        hidden = self.norm(inputs_embeds + embedding(positions, self.positions.weight)).flatten(0, 1)
        mask = None if attention_mask.all() else attention_mask.bool()[:, None, None]
        for layer in self.layers:
            heads = layer.qkv(hidden).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            queries, keys, values = heads.unbind(0)
            attended = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            hidden = layer.norm(layer.out.add_to(hidden, attended.transpose(1, 2).reshape(-1, width)))
            hidden = layer.final_norm(layer.fc2.add_to(hidden, layer.fc1(hidden, "gelu")))
        return BaseModelOutput(last_hidden_state=hidden.view(batch, length, width))

"""One step of BART's decoder for many hypotheses at once, from packed weights and a shared cache."""

import math

import torch
from torch import nn
from transformers import BartForConditionalGeneration

from .decoder_cache_lp_music_caps import DecoderCache
from .precision_tiers_lp_music_caps import Linear, new_linear, pack
from .static_cache_lp_music_caps import StaticCache

# The head's rows are padded to whole blocks, so that the best tokens are found from the blocks' maxima.
BLOCK = 64


class FastLayer:
    """One decoder layer's packed weights."""

    def __init__(self, layer: nn.Module, tier: str, rows: int | None) -> None:
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

    vocabulary: the token ids that answers may have; all of them without it. Inside, a token is its place in this list.
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
        heard = (layer.encoder_attn for layer in decoder.layers)
        self.cross_kv = pack(tier, *(part for attention in heard for part in (attention.k_proj, attention.v_proj)))
        self.head = pack_head(model, tier, vocabulary, rows)

    def new_cache(self, slots: int, beams: int) -> DecoderCache:
        """Build an empty cache of the model's sizes."""
        return DecoderCache(len(self.layers), slots, beams, self.heads, self.head_dim, self.tokens.weight.dtype)

    def new_static_cache(self, slots: int, beams: int, places: int) -> StaticCache:
        """Build an empty cache of fixed shapes for answers of up to `places` tokens."""
        sizes = len(self.layers), slots, beams, self.heads, self.head_dim
        return StaticCache(*sizes, places, self.tokens.weight.dtype, self.device)

    @property
    def device(self) -> torch.device:
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
            heard = self.attend(queries, *cache.extend(index, keys, values), mask)
            hidden = layer.norm(layer.out.add_to(hidden, heard))
            queries = layer.cross_q(hidden).view(active, cache.beams, self.heads, self.head_dim)
            keys, values = cache.cross_keys[index, :active], cache.cross_values[index, :active]
            heard = self.attend(queries, keys, values, cross_mask)
            hidden = layer.cross_norm(layer.cross_out.add_to(hidden, heard))
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
    """A layer norm whose parts are at hand: to find them in a module takes longer than to normalise a few rows."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        self.parts = layer.normalized_shape, layer.weight.detach(), layer.bias.detach(), layer.eps

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.layer_norm(hidden, *self.parts)


def pack_head(
    model: BartForConditionalGeneration, tier: str, vocabulary: torch.Tensor | None, rows: int | None
) -> Linear:
    """Pack the vocabulary head with `final_logits_bias`, padded to whole blocks of logits out of the race."""
    weight, bias = model.lm_head.weight.detach(), model.final_logits_bias.detach()[0]
    if vocabulary is not None:
        weight, bias = weight[vocabulary], bias[vocabulary]
    missing = -len(weight) % BLOCK
    padding = weight.new_zeros(missing, weight.shape[1]), bias.new_full((missing,), float("-inf"))
    return new_linear(tier, [weight, padding[0]], [bias, padding[1]], rows)

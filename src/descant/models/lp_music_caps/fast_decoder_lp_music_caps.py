"""One step of BART's decoder for many hypotheses at once, from packed weights and a shared cache."""

import math

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers import BartForConditionalGeneration

from .decoder_cache_lp_music_caps import DecoderCache
from .packed_linear_lp_music_caps import PackedLinear
from .precision_tiers_lp_music_caps import TIERS, Bfloat16Linear, Int8Linear, pack

# The head's rows are padded to whole blocks, so that the best tokens are found from the blocks' maxima.
BLOCK = 64


class FastLayer:
    """One decoder layer's packed weights."""

    def __init__(self, layer: nn.Module, tier: str) -> None:
        own, cross = layer.self_attn, layer.encoder_attn
        self.qkv = pack(tier, own.q_proj, own.k_proj, own.v_proj)
        self.out = pack(tier, own.out_proj)
        self.norm = layer.self_attn_layer_norm
        self.cross_q = pack(tier, cross.q_proj)
        self.cross_kv = pack(tier, cross.k_proj, cross.v_proj)
        self.cross_out = pack(tier, cross.out_proj)
        self.cross_norm = layer.encoder_attn_layer_norm
        self.fc1 = pack(tier, layer.fc1)
        self.fc2 = pack(tier, layer.fc2)
        self.final_norm = layer.final_layer_norm


class FastDecoder:
    """The decoder and the vocabulary head of a model, packed.

    vocabulary: the token ids that answers may have; all of them without it. Inside, a token is its place in this list.
    """

    def __init__(
        self, model: BartForConditionalGeneration, tier: str = "fp32", vocabulary: torch.Tensor | None = None
    ) -> None:
        decoder = model.model.decoder
        self.heads = model.config.decoder_attention_heads
        self.head_dim = model.config.d_model // self.heads
        self.vocabulary = vocabulary
        self.vocab_size = model.config.vocab_size if vocabulary is None else len(vocabulary)
        self.tokens, self.positions = decoder.embed_tokens, decoder.embed_positions
        self.norm = decoder.layernorm_embedding
        self.layers = [FastLayer(layer, tier) for layer in decoder.layers]
        self.head = pack_head(model, tier, vocabulary)

    def new_cache(self, slots: int, beams: int) -> DecoderCache:
        """Build an empty cache of the model's sizes."""
        return DecoderCache(len(self.layers), slots, beams, self.heads, self.head_dim, self.tokens.weight.dtype)

    def open_slot(self, cache: DecoderCache, slot: int, states: torch.Tensor) -> None:
        """Give a slot to a question with the encoder states (length, d_model)."""
        length = len(states)
        cache.open(slot, length)
        for index, layer in enumerate(self.layers):
            keys, values = layer.cross_kv(states).view(length, 2, self.heads, self.head_dim).unbind(1)
            cache.cross_keys[index, slot, :, :, :length] = keys.permute(1, 2, 0)
            cache.cross_values[index, slot, :, :length] = values.transpose(0, 1)

    def step(self, cache: DecoderCache, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Decode one token a row: tokens and positions (active, beams), with their nodes in the mask already.

        Returns the last hidden states (active · beams, d_model).
        """
        active = len(tokens)
        new = slice(cache.used - cache.beams, cache.used)
        known = tokens if self.vocabulary is None else self.vocabulary[tokens]
        hidden = self.tokens(known) + nn.functional.embedding(positions + self.positions.offset, self.positions.weight)
        hidden = norm(self.norm, hidden).flatten(0, 1)  # (active · beams, d_model)
        mask = cache.mask[:active, None, :, : cache.used]
        cross_mask = cache.cross_mask[:active, None]
        for index, layer in enumerate(self.layers):
            queries, keys, values = layer.qkv(hidden).view(active, cache.beams, 3, self.heads, self.head_dim).unbind(2)
            cache.keys[index, :active, :, :, new] = keys.permute(0, 2, 3, 1)
            cache.values[index, :active, :, new] = values.transpose(1, 2)
            keys, values = (
                cache.keys[index, :active, :, :, : cache.used],
                cache.values[index, :active, :, : cache.used],
            )
            heard = self.attend(queries, keys, values, mask)
            hidden = norm(layer.norm, layer.out.add_to(hidden, heard))
            queries = layer.cross_q(hidden).view(active, cache.beams, self.heads, self.head_dim)
            keys, values = cache.cross_keys[index, :active], cache.cross_values[index, :active]
            heard = self.attend(queries, keys, values, cross_mask)
            hidden = norm(layer.cross_norm, layer.cross_out.add_to(hidden, heard))
            hidden = norm(layer.final_norm, layer.fc2.add_to(hidden, layer.fc1(hidden, "gelu")))
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


def norm(layer: nn.LayerNorm, hidden: torch.Tensor) -> torch.Tensor:
    return layer_norm(hidden, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def pack_head(
    model: BartForConditionalGeneration, tier: str, vocabulary: torch.Tensor | None
) -> PackedLinear | Bfloat16Linear | Int8Linear:
    """Pack the vocabulary head with `final_logits_bias`, padded to whole blocks of logits out of the race."""
    weight, bias = model.lm_head.weight.detach(), model.final_logits_bias.detach()[0]
    if vocabulary is not None:
        weight, bias = weight[vocabulary], bias[vocabulary]
    missing = -len(weight) % BLOCK
    padding = weight.new_zeros(missing, weight.shape[1]), bias.new_full((missing,), float("-inf"))
    return TIERS[tier]([weight, padding[0]], [bias, padding[1]])

"""One step of BART's decoder for many hypotheses at once, from packed weights and a shared cache."""

import math

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers import BartForConditionalGeneration

from .decoder_cache_lp_music_caps import DecoderCache
from .packed_linear_lp_music_caps import PackedLinear, pack

# The head's rows are padded to whole blocks, so that the best tokens are found from the blocks' maxima.
BLOCK = 64


class FastLayer:
    """One decoder layer's packed weights."""

    def __init__(self, layer: nn.Module) -> None:
        own, cross = layer.self_attn, layer.encoder_attn
        self.qkv = pack(own.q_proj, own.k_proj, own.v_proj)
        self.out = pack(own.out_proj)
        self.norm = layer.self_attn_layer_norm
        self.cross_q = pack(cross.q_proj)
        self.cross_kv = pack(cross.k_proj, cross.v_proj)
        self.cross_out = pack(cross.out_proj)
        self.cross_norm = layer.encoder_attn_layer_norm
        self.fc1 = pack(layer.fc1)
        self.fc2 = pack(layer.fc2)
        self.final_norm = layer.final_layer_norm


class FastDecoder:
    """The decoder and the vocabulary head of a model, packed."""

    def __init__(self, model: BartForConditionalGeneration) -> None:
        decoder = model.model.decoder
        self.heads = model.config.decoder_attention_heads
        self.head_dim = model.config.d_model // self.heads
        self.vocab_size = model.config.vocab_size
        self.tokens, self.positions = decoder.embed_tokens, decoder.embed_positions
        self.norm = decoder.layernorm_embedding
        self.layers = [FastLayer(layer) for layer in decoder.layers]
        self.head = pack_head(model)

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
        hidden = self.tokens(tokens) + nn.functional.embedding(
            positions + self.positions.offset, self.positions.weight
        )
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


def pack_head(model: BartForConditionalGeneration) -> PackedLinear:
    """Pack the vocabulary head with `final_logits_bias`, padded to whole blocks of logits of -inf."""
    weight, bias = model.lm_head.weight.detach(), model.final_logits_bias.detach()[0]
    missing = -len(weight) % BLOCK
    return PackedLinear(
        [weight, weight.new_zeros(missing, weight.shape[1])], [bias, bias.new_full((missing,), float("-inf"))]
    )

"""BART's encoder from packed weights, for answering."""

import torch
from torch import nn
from torch.nn.functional import embedding, scaled_dot_product_attention
from transformers import BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from .fast_decoder_lp_music_caps import Norm
from .precision_tiers_lp_music_caps import encoding_tier, pack


class FastEncoderLayer:
    """One encoder layer's packed weights."""

    def __init__(self, layer: nn.Module, tier: str) -> None:
        own = layer.self_attn
        self.qkv = pack(tier, own.q_proj, own.k_proj, own.v_proj)
        self.out = pack(tier, own.out_proj)
        self.norm = Norm(layer.self_attn_layer_norm)
        self.fc1 = pack(tier, layer.fc1)
        self.fc2 = pack(tier, layer.fc2)
        self.final_norm = Norm(layer.final_layer_norm)


class FastEncoder:
    """The encoder of a model, packed; it is called as the model's own is. The lower tiers encode in bfloat16
    where the device has it."""

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
        places = torch.arange(length, device=inputs_embeds.device) + self.positions.offset
        hidden = self.norm(inputs_embeds + embedding(places, self.positions.weight)).flatten(0, 1)
        mask = None if attention_mask.all() else attention_mask.bool()[:, None, None]
        for layer in self.layers:
            heads = layer.qkv(hidden).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            heard = scaled_dot_product_attention(*heads, attn_mask=mask).transpose(1, 2).reshape(-1, width)
            hidden = layer.norm(layer.out.add_to(hidden, heard))
            hidden = layer.final_norm(layer.fc2.add_to(hidden, layer.fc1(hidden, "gelu")))
        return BaseModelOutput(last_hidden_state=hidden.view(batch, length, width))

"""The decoder's memory in tensors that keep their shapes and places, as a recorded GPU graph needs them."""

import torch

from .decoder_cache_lp_music_caps import MINUS_INFINITY, SharedHistory

GRAIN = 64  # encoder positions are reserved in these steps


class StaticCache(SharedHistory):
    """Keys and values of `slots` questions, each with `beams` hypotheses of up to `places` tokens.

    As in DecoderCache a beam's history is a set of columns, held in a mask, so that a change of beams moves only rows
    of the mask. But a token's columns are given by its place in its own answer, one a beam, so nothing grows or is
    compacted, and questions may be at different places. `columns` says how many of them a step looks at.
    """

    def __init__(
        self, layers: int, slots: int, beams: int, heads: int, head_dim: int, places: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.beams = beams
        self.columns = places * beams
        self.shape = layers, slots, heads
        # Zeros: the NaN of uninitialised memory would come through a weight of 0.
        self.keys = torch.zeros(*self.shape, head_dim, self.columns, dtype=dtype, device=device)
        self.values = torch.zeros(*self.shape, self.columns, head_dim, dtype=dtype, device=device)
        self.mask = torch.full((slots, beams, self.columns), MINUS_INFINITY, dtype=dtype, device=device)
        self.new = torch.zeros(slots, beams, dtype=torch.long, device=device)
        self._reserve_cross(GRAIN)

    def open(self, slot: int, length: int) -> None:
        """Make a slot empty for a question of `length` encoder positions; the cross tensors are then to be filled."""
        if length > self.cross_mask.shape[2]:
            self._widen_cross(length)
        for tensor in (self.keys, self.values, self.cross_keys, self.cross_values):
            tensor[:, slot] = 0  # a NaN of the question before would come through a weight of 0
        self.mask[slot] = MINUS_INFINITY
        self.cross_mask[slot] = MINUS_INFINITY
        self.cross_mask[slot, :, :length] = 0

    def begin(self, places: torch.Tensor) -> None:
        """Begin a step whose tokens are at `places` (active, beams) of their answers, each in its beam's history."""
        active = len(places)
        self.new[:active] = places * self.beams + torch.arange(self.beams, device=places.device)
        self.mask[:active].scatter_(2, self.new[:active, :, None], 0.0)

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store this step's keys and values (active, beams, heads, head_dim) of a layer; returns all of the active
        questions, (active, heads, head_dim, columns) and (active, heads, columns, head_dim)."""
        active, new = len(keys), self.new[: len(keys), None]
        keys, values = keys.permute(0, 2, 3, 1), values.transpose(1, 2)
        self.keys[layer, :active].scatter_(3, new[:, :, None].expand_as(keys), keys)
        self.values[layer, :active].scatter_(2, new[:, :, :, None].expand_as(values), values)
        return self.keys[layer, :active, :, :, : self.columns], self.values[layer, :active, :, : self.columns]

    def _reserve_cross(self, length: int) -> None:
        head_dim = self.keys.shape[3]
        self.cross_keys = self.keys.new_zeros(*self.shape, head_dim, length)
        self.cross_values = self.keys.new_zeros(*self.shape, length, head_dim)
        # A slot without a question hears zeros, not nothing, of which NaN would be the mean.
        self.cross_mask = self.keys.new_zeros(self.shape[1], 1, length)

    @torch.inference_mode(False)  # or it could not be written to outside of that mode
    def _widen_cross(self, length: int) -> None:
        keys, values, mask = self.cross_keys, self.cross_values, self.cross_mask
        known = mask.shape[2]
        self._reserve_cross(length + -length % GRAIN)
        self.cross_keys[..., :known] = keys
        self.cross_values[..., :known, :] = values
        self.cross_mask[:] = MINUS_INFINITY
        self.cross_mask[:, :, :known] = mask

"""Key-value caches of the decoder, stored once a question, not once a beam: a growing one, and one of fixed shapes."""

import torch

MINUS_INFINITY = float("-inf")
GRAIN = 64  # encoder positions for which a StaticCache reserves memory at a time


class SharedHistory:
    """Histories of beams as rows of a mask over the columns of keys and values that all beams of a question share."""

    keys: torch.Tensor  # (layers, slots, heads, head_dim, columns), the cross-attention's likewise
    values: torch.Tensor  # (layers, slots, heads, columns, head_dim), the cross-attention's likewise
    cross_keys: torch.Tensor
    cross_values: torch.Tensor
    mask: torch.Tensor  # (slots, beams, columns), 0 for a column of the beam's history, else -inf
    cross_mask: torch.Tensor  # (slots, 1, columns)
    columns: int  # that a step looks at

    def history(self, active: int) -> torch.Tensor:
        """Return the mask of the active questions' columns, (active, beams, columns)."""
        return self.mask[:active, :, : self.columns]

    def reorder(self, parents: torch.Tensor) -> None:
        """Let each beam go on from its parent's history; parents: (active, beams)."""
        history = self.history(len(parents))
        history.copy_(history.gather(1, parents[:, :, None].expand_as(history)))

    def move(self, source: int, target: int) -> None:
        """Copy a question to another slot, so that the questions in flight stay the first slots."""
        for tensor in (self.keys, self.values, self.cross_keys, self.cross_values):
            tensor[:, target] = tensor[:, source]
        for tensor in (self.mask, self.cross_mask):
            tensor[target] = tensor[source]


class DecoderCache(SharedHistory):
    """Keys and values of up to `slots` questions, each with `beams` hypotheses.

    Self-attention: every step adds one node a beam, at the same columns for all questions. A beam's history is a set
    of columns, held in a mask; beams that share history share its nodes. So a change of beams moves no keys and no
    values, only rows of the mask, and a node is read once for all beams of its question. Columns that no beam needs
    any more are dropped now and then by `compact`.

    Cross-attention: a question's keys and values are stored once.
    """

    def __init__(self, layers: int, slots: int, beams: int, heads: int, head_dim: int, dtype: torch.dtype) -> None:
        self.beams = beams
        shape = (layers, slots, heads)
        # Keys are transposed, since scores are then plain products of contiguous rows.
        self.keys = torch.empty(*shape, head_dim, 0, dtype=dtype)
        self.values = torch.empty(*shape, 0, head_dim, dtype=dtype)
        self.mask = torch.empty(slots, beams, 0, dtype=dtype)
        self.cross_keys = torch.empty(*shape, head_dim, 0, dtype=dtype)
        self.cross_values = torch.empty(*shape, 0, head_dim, dtype=dtype)
        self.cross_mask = torch.empty(slots, 1, 0, dtype=dtype)
        self.columns = 0  # in use
        self.compacted = 0  # columns that the last compaction left

    @property
    def slots(self) -> int:
        """Questions that fit at a time."""
        return self.mask.shape[0]

    def open(self, slot: int, length: int) -> None:
        """Make a slot empty for a question of `length` encoder positions; the cross tensors are then to be filled."""
        self.mask[slot] = MINUS_INFINITY
        self._reserve_cross(length)
        self.cross_mask[slot] = MINUS_INFINITY
        self.cross_mask[slot, :, :length] = 0

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Store this step's keys and values (active, beams, heads, head_dim) of a layer; returns all of the active
        questions, (active, heads, head_dim, columns) and (active, heads, columns, head_dim)."""
        active, new = len(keys), slice(self.columns - self.beams, self.columns)
        self.keys[layer, :active, :, :, new] = keys.permute(0, 2, 3, 1)
        self.values[layer, :active, :, new] = values.transpose(1, 2)
        return self.keys[layer, :active, :, :, : self.columns], self.values[layer, :active, :, : self.columns]

    def add_nodes(self, active: int) -> slice:
        """Reserve this step's columns, one a beam, each in its own beam's history only; returns the columns."""
        if self.columns >= self.compacted + max(32, self.compacted // 2):
            self.compact(active)
        self._reserve(self.columns + self.beams)
        new = slice(self.columns, self.columns + self.beams)
        self.mask[:active, :, new] = MINUS_INFINITY
        self.mask[:active, :, new].diagonal(dim1=1, dim2=2).zero_()
        self.columns += self.beams
        return new

    def compact(self, active: int) -> None:
        """Keep only the columns that some beam needs, moved to the left, question by question."""
        needed = (self.mask[:active, :, : self.columns] == 0).any(dim=1)  # (active, columns)
        self.compacted = int(needed.sum(dim=1).max()) if active else 0
        order = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : self.compacted]
        mask = self.mask[:active]
        mask[:, :, : self.compacted] = mask.gather(2, order[:, None].expand(-1, self.beams, -1))
        for keys, values in zip(self.keys, self.values, strict=True):
            _, heads, head_dim, _ = keys.shape
            index = order[:, None, None].expand(-1, heads, head_dim, -1)
            keys[:active, :, :, : self.compacted] = keys[:active].gather(3, index)
            index = order[:, None, :, None].expand(-1, heads, -1, head_dim)
            values[:active, :, : self.compacted] = values[:active].gather(2, index)
        self.columns = self.compacted

    def _reserve(self, columns: int) -> None:
        if columns > self.mask.shape[2]:
            capacity = max(columns + columns // 2, 64)
            self.keys = widen(self.keys, 4, capacity)
            self.values = widen(self.values, 3, capacity)
            self.mask = widen(self.mask, 2, capacity)

    def _reserve_cross(self, length: int) -> None:
        if length > self.cross_mask.shape[2]:
            self.cross_keys = widen(self.cross_keys, 4, length)
            self.cross_values = widen(self.cross_values, 3, length)
            self.cross_mask = widen(self.cross_mask, 2, length, fill=MINUS_INFINITY)


def widen(tensor: torch.Tensor, dim: int, size: int, fill: float = 0.0) -> torch.Tensor:
    """Make a dimension longer; zeros, unlike uninitialised memory, cannot bring NaN through a weight of 0."""
    shape = list(tensor.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([tensor, tensor.new_full(shape, fill)], dim=dim)


class StaticCache(SharedHistory):
    """Keys and values of `slots` questions, each with `beams` hypotheses of up to `length` tokens.

    As in DecoderCache a beam's history is a set of columns, held in a mask, so that a change of beams moves only rows
    of the mask. But a token's columns are given by its position in its own answer, one a beam, so nothing grows or is
    compacted, and questions may be at different positions. A step looks at the first `columns`.
    """

    def __init__(
        self, layers: int, slots: int, beams: int, heads: int, head_dim: int, length: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.beams = beams
        self.columns = length * beams
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

    def begin(self, positions: torch.Tensor) -> None:
        """Begin a step: enter tokens at `positions` (active, beams) of their answers into their beams' histories."""
        active = len(positions)
        self.new[:active] = positions * self.beams + torch.arange(self.beams, device=positions.device)
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
        # A slot without a question attends to zeros; to attend to nothing would give NaN.
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

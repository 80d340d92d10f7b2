"""Rows about one clip in one sequence: what they share once, what each adds beside it, unseen by the others."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SplitPrompts:
    """Prompts cut behind the audio: heads of one length, tails padded at their start."""

    head_ids: torch.Tensor  # (rows, head)
    head_mask: torch.Tensor
    tail_ids: torch.Tensor  # (rows, longest tail)
    tail_mask: torch.Tensor


def split_prompts(ids: torch.Tensor, mask: torch.Tensor, audio_token_id: int) -> SplitPrompts:
    """Cut prompts (rows, length), padded anywhere, behind the last placeholder of the audio.

    Raises ValueError where a prompt has no placeholder, or not the same tokens before it as the others have.
    """
    order = mask.argsort(dim=1, stable=True)  # all padding to the start
    ids, mask = ids.gather(1, order), mask.gather(1, order)
    is_audio = (ids == audio_token_id) & mask.bool()
    starts = (mask == 0).sum(dim=1)
    ends = ids.shape[1] - is_audio.flip(1).int().argmax(dim=1)
    head = int((ends - starts)[0])
    if not bool((is_audio.any(dim=1) & (ends - starts == head)).all()):
        raise ValueError("the prompts differ before the end of the audio: build them with MertLMProcessor")
    head_ids = ids.gather(1, starts[:, None] + torch.arange(head, device=ids.device))
    tail = ids.shape[1] - head
    columns = torch.arange(head, ids.shape[1], device=ids.device)
    tail_mask = (columns >= ends[:, None]).long()
    longest = int(tail_mask.sum(dim=1).max()) if tail else 0
    tail_mask, tail_ids = tail_mask[:, tail - longest :], ids[:, ids.shape[1] - longest :]
    return SplitPrompts(head_ids, torch.ones_like(head_ids), tail_ids * tail_mask, tail_mask)


@dataclass(frozen=True)
class PackedRows:
    """Sequences (clips, head + slots × tail) for a causal language model."""

    embeds: torch.Tensor  # (clips, length, width)
    mask: torch.Tensor  # (clips, 1, length, length), 0 where a position may look, else the dtype's minimum
    positions: torch.Tensor  # (clips, length)
    clip_index: torch.Tensor  # (rows,)
    slots: torch.Tensor  # (rows,), the place of each row in its clip's sequence
    head: int

    def rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """The states of each row's tail (rows, tail, width)."""
        count = int(self.slots.max()) + 1
        tails = hidden[:, self.head :].unflatten(1, (count, -1))
        return tails[self.clip_index, self.slots]


def pack_rows(
    heads: torch.Tensor, tails: torch.Tensor, tail_mask: torch.Tensor, clip_index: torch.Tensor, clips: int
) -> PackedRows:
    """Put the rows of each clip into one sequence: the head that they share, then their tails.

    heads: (rows, head, width), equal for rows of a clip. tails: (rows, tail, width). tail_mask: (rows, at most tail),
    0 where a tail begins with padding; what lies beyond it is the answer. Padding behind an answer needs no mask.
    """
    rows, head, width = heads.shape
    slots = (clip_index[:, None] == clip_index[None, :]).tril(-1).sum(dim=1)
    count = int(slots.max()) + 1
    shared = heads.new_zeros(clips, head, width).index_put((clip_index,), heads)
    own = tails.new_zeros(clips, count, tails.shape[1], width).index_put((clip_index, slots), tails)
    padded = (tail_mask == 0).sum(dim=1)
    padding = padded.new_zeros(clips, count).index_put((clip_index, slots), padded)
    place = torch.arange(tails.shape[1], device=heads.device)
    own_positions = (head + place - padding[..., None]).clamp(min=head).flatten(1)
    head_positions = torch.arange(head, device=heads.device).expand(clips, head)
    return PackedRows(
        embeds=torch.cat([shared, own.flatten(1, 2)], dim=1),
        mask=block_mask(head, count, padding, tails.shape[1], heads.dtype),
        positions=torch.cat([head_positions, own_positions], dim=1),
        clip_index=clip_index,
        slots=slots,
        head=head,
    )


def block_mask(head: int, count: int, padding: torch.Tensor, tail: int, dtype: torch.dtype) -> torch.Tensor:
    """Positions look back at the head and at their own tail, never at another row's nor at padding."""
    device = padding.device
    place = torch.arange(head + count * tail, device=device)
    slot = torch.where(place < head, -1, (place - head) // tail)
    is_padding = (place - head) % tail < padding.repeat_interleave(tail, dim=1)[:, (place - head).clamp(min=0)]
    seen = (slot[None, :] == -1) | (slot[None, :] == slot[:, None])
    seen = seen & (place[None, :] <= place[:, None])
    seen = seen[None] & ~(is_padding & (slot >= 0))[:, None, :]
    blocked = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)
    return blocked[:, None]

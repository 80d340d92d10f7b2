"""Rows about one clip packed into one sequence: the shared prompt once, then each row's own tokens, masked apart."""

from dataclasses import dataclass

import torch
from torch import nn

HEAD, PADDING = -1, -2  # owners of positions that belong to no row


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
    """Sequences (clips, length) for a causal language model, as long as the longest clip's head and tails."""

    embeds: torch.Tensor  # (clips, length, width)
    mask: torch.Tensor  # (clips, 1, length, length), 0 where a position may look, else the dtype's minimum
    positions: torch.Tensor  # (clips, length)
    clip_index: torch.Tensor  # (rows,)
    columns: torch.Tensor  # (rows, tail), the column of each token of a row's tail in its clip's sequence

    def rows(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the states of each row's tail (rows, tail, width); anything where it is padding."""
        return hidden[self.clip_index[:, None], self.columns]


def pack_rows(
    heads: torch.Tensor, tails: torch.Tensor, tail_mask: torch.Tensor, clip_index: torch.Tensor, clips: int
) -> PackedRows:
    """Put the rows of each clip into one sequence: the head that they share, then their tails without padding.

    heads: (rows, head, width), equal for rows of a clip. tails: (rows, tail, width). tail_mask: (rows, tail), 0 where
    a tail is padding.
    """
    head, is_token = heads.shape[1], tail_mask.bool()
    lengths, inside = is_token.sum(dim=1), is_token.cumsum(dim=1) - 1
    earlier = (clip_index[:, None] == clip_index[None, :]).tril(-1)
    # The shared head is taken from one row only; otherwise its gradient is counted once per row.
    first = ~earlier.any(dim=1)
    starts = head + (earlier * lengths).sum(dim=1)
    columns = starts[:, None] + inside.clamp(min=0)
    length = int((starts + lengths).max())
    taken = (clip_index[:, None].expand_as(columns)[is_token], columns[is_token])
    shared = heads.new_zeros(clips, head, heads.shape[2]).index_put((clip_index[first],), heads[first])
    embeds = nn.functional.pad(shared, (0, 0, 0, length - head)).index_put(taken, tails[is_token])
    positions = torch.arange(length, device=heads.device).repeat(clips, 1)
    owners = torch.where(positions < head, HEAD, PADDING)
    owners[taken] = torch.arange(len(tails), device=heads.device)[:, None].expand_as(columns)[is_token]
    positions[taken] = (head + inside)[is_token]
    return PackedRows(embeds, block_mask(owners, heads.dtype), positions, clip_index, columns.clamp(max=length - 1))


def block_mask(owners: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Build the mask by which positions attend to the head and to their own row; owners: (clips, length)."""
    seen = (owners[:, None, :] == HEAD) | (owners[:, None, :] == owners[:, :, None])
    blocked = torch.zeros(seen.shape, dtype=dtype, device=owners.device)
    return blocked.masked_fill(~seen.tril(), torch.finfo(dtype).min)[:, None]


def up_to_last(counted: torch.Tensor) -> torch.Tensor:
    """Return 1 up to the last true element of each row (rows, tokens), 0 behind it."""
    return (counted.flip(1).cumsum(dim=1).flip(1) > 0).long()

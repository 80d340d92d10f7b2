"""Encodes a stream of (clip, question) pairs ahead of the search: each clip once, in groups of like length."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from .fast_encoder_lp_music_caps import FastEncoder
from .precision_tiers_lp_music_caps import lower_precision

Pair = tuple[Hashable, torch.Tensor | np.ndarray, list[int] | None]  # clip key, input_features, prompt ids

GROUP = 16  # questions encoded together: enough rows for the processor's full speed
CLIPS_KEPT = 256  # embedded clips remembered, at 100 KB each


class QuestionStream:
    """Iterates over (position in the stream, encoder states (length, d_model)); reads `ahead` pairs at a time."""

    def __init__(
        self,
        model: PreTrainedModel,
        pairs: Iterable[Pair],
        ahead: int,
        tier: str = "fp32",
        encoder: FastEncoder | None = None,
    ) -> None:
        self.model = model
        self.tier = tier
        self.encoder = encoder  # the model's own without it
        self.pairs = enumerate(pairs)
        self.ahead = ahead
        self.clips: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[int, torch.Tensor]]:
        while window := list(islice(self.pairs, self.ahead)):
            window.sort(key=lambda item: len(item[1][2] or ()))
            for start in range(0, len(window), GROUP):
                yield from self._encode(window[start : start + GROUP])

    def _encode(self, group: list[tuple[int, Pair]]) -> Iterator[tuple[int, torch.Tensor]]:
        device = self.model.device
        prompts = [torch.tensor(ids or [], dtype=torch.long) for _, (_, _, ids) in group]
        masks = [torch.ones_like(ids) for ids in prompts]
        with lower_precision(self.tier, device):
            outputs, mask = self.model.encode(
                audio_embeds=self._embed([pair for _, pair in group]),
                prompt_input_ids=pad_sequence(prompts, batch_first=True).to(device),
                prompt_attention_mask=pad_sequence(masks, batch_first=True).to(device),
                encoder=self.encoder,
            )
        lengths = mask.sum(dim=1).tolist()
        hidden = outputs.last_hidden_state.to(self.model.dtype)
        for (position, _), states, length in zip(group, hidden, lengths, strict=True):
            yield position, states[:length]

    def _embed(self, pairs: list[Pair]) -> torch.Tensor:
        """The clips' embeddings (pairs, positions, d_model), from memory where they were asked about before."""
        new = {key: torch.as_tensor(features) for key, features, _ in pairs if key not in self.clips}
        if new:
            embeds = self.model.get_audio_features(torch.stack(list(new.values())).to(self.model.device))
            # Copies: a view would keep all clips of its batch in memory.
            self.clips.update((key, embed.clone()) for key, embed in zip(new, embeds, strict=True))
        for key, _, _ in pairs:
            self.clips.move_to_end(key)
        embeds = torch.stack([self.clips[key] for key, _, _ in pairs])
        while len(self.clips) > CLIPS_KEPT:
            self.clips.popitem(last=False)
        return embeds

"""What the language model has read before a question, kept: the system prompt once, the audio once a clip."""

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

CLIPS_KEPT = 64  # a clip of 50 positions takes 2 MB in SmolLM2-135M


class PrefixCache:
    """Keys and values of the prompt up to the end of the audio, for the clips asked about last."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.openings: dict[tuple[int, ...], torch.Tensor] = {}
        self.clips: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def read(
        self, keys: Sequence[Hashable], features: Sequence[torch.Tensor], opening: tuple[int, ...]
    ) -> tuple[DynamicCache, int]:
        """A cache whose rows have read the tokens of `opening` and their clip's audio, and its length."""
        opened = self._read_opening(opening)
        wanted = [(opening, key) for key in keys]
        new = {name: clip for name, clip in zip(wanted, features, strict=True) if name not in self.clips}
        if new:
            clips = self._read_clips(opened, torch.stack(list(new.values())))
            # Copies: a view would keep all clips of its batch in memory.
            self.clips.update((name, clip.clone()) for name, clip in zip(new, clips, strict=True))
        for name in wanted:
            self.clips.move_to_end(name)
        heard = torch.stack([self.clips[name] for name in wanted], dim=2)
        while len(self.clips) > CLIPS_KEPT:
            self.clips.popitem(last=False)
        whole = torch.cat([repeat(opened, len(wanted)), heard], dim=4)
        return as_cache(whole), whole.shape[4]

    def _read_opening(self, opening: tuple[int, ...]) -> torch.Tensor:
        """States (layers, 2, 1, heads, length, head size) of the tokens before the audio."""
        if opening not in self.openings:
            ids = torch.tensor([opening], device=self.model.device)
            cache = DynamicCache()
            self.model.read_on(self.model.get_input_embeddings()(ids), cache)
            self.openings[opening] = as_tensor(cache)
        return self.openings[opening]

    def _read_clips(self, opened: torch.Tensor, features: torch.Tensor) -> list[torch.Tensor]:
        """States (layers, 2, heads, positions, head size) of each clip's audio behind an opening."""
        embeds = self.model.get_audio_features(features.to(self.model.device))
        cache = as_cache(repeat(opened, len(embeds)))
        self.model.read_on(embeds, cache)
        return list(as_tensor(cache)[..., opened.shape[4] :, :].unbind(dim=2))


def as_tensor(cache: DynamicCache) -> torch.Tensor:
    """Keys and values of all layers, (layers, 2, rows, heads, length, head size)."""
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])


def as_cache(states: torch.Tensor) -> DynamicCache:
    """The inverse of `as_tensor`."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(states):
        cache.update(keys, values, number)
    return cache


def repeat(states: torch.Tensor, rows: int) -> torch.Tensor:
    """One row's states for many rows."""
    return states.expand(-1, -1, rows, -1, -1, -1)

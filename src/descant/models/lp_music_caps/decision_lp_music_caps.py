"""How the model scores the options of typed questions: one pass of its decoder over a tree of answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from .answer_tree import AnswerTree, pool_states
from .decision_music import MusicDecisionMixin

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object

ROWS_AT_ONCE = 64  # of the decoder, each a window and a wording of a question


class LPMusicCapsDecisionMixin(MusicDecisionMixin, Base):
    """The methods of `LPMusicCapsForConditionalGeneration` for typed questions."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None, *args: Any, **kwargs: Any) -> Any:
        """Load as transformers does, and the model's `decision.json`."""
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if pretrained_model_name_or_path is not None:
            model.load_decisions(pretrained_model_name_or_path, kwargs)
        return loaded

    @torch.no_grad()
    def score_options(
        self, input_features: torch.Tensor, prompts: list[list[list[int]]], trees: list[AnswerTree]
    ) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question, averaged over its wordings.

        prompts: question → wordings → token ids. trees: the sentences that state each question's options.
        """
        audio = self.get_audio_features(input_features.to(self.device))
        states = pool_states(audio)
        pairs = [(number, prompt) for number, wordings in enumerate(prompts) for prompt in wordings]
        scores: list[list[torch.Tensor]] = [[] for _ in trees]
        at_once = max(1, ROWS_AT_ONCE // len(audio))
        for start in range(0, len(pairs), at_once):
            part = pairs[start : start + at_once]
            log_probs = self._score_trees(audio, [prompt for _, prompt in part], [trees[number] for number, _ in part])
            for (number, _), rows in zip(part, log_probs.split(len(audio)), strict=True):
                scores[number].append(trees[number].gather(rows, states).log_softmax(dim=1))
        return [torch.stack(wordings).mean(dim=0) for wordings in scores]

    def _score_trees(self, audio: torch.Tensor, prompts: list[list[int]], trees: list[AnswerTree]) -> torch.Tensor:
        """Read each prompt about every window, and its tree behind it: (prompts × windows, nodes, vocabulary)."""
        windows = len(audio)
        ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True).to(audio.device)
        mask = pad_sequence([torch.ones(len(prompt), dtype=torch.long) for prompt in prompts], batch_first=True)
        encoded, encoded_mask = self.encode(
            prompt_input_ids=ids.repeat_interleave(windows, dim=0),
            prompt_attention_mask=mask.to(audio.device).repeat_interleave(windows, dim=0),
            clip_index=torch.arange(windows, device=audio.device).repeat(len(prompts)),
            audio_embeds=audio,
        )
        tokens, depths, visible = stack_trees(trees, self.config.decoder_start_token_id)
        blocked = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        states = self.model.decoder(
            input_ids=tokens.to(audio.device).repeat_interleave(windows, dim=0),
            attention_mask=blocked[:, None].to(encoded[0]).repeat_interleave(windows, dim=0),
            position_ids=depths.to(audio.device).repeat_interleave(windows, dim=0),
            encoder_hidden_states=encoded[0],
            encoder_attention_mask=encoded_mask,
            use_cache=False,
        ).last_hidden_state
        return (self.lm_head(states) + self.final_logits_bias).float().log_softmax(dim=-1)


def stack_trees(trees: list[AnswerTree], start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad trees to the largest: tokens and depths (trees, nodes), which nodes each one sees (trees, nodes, nodes).

    start: the token of each tree's first node.
    """
    size = max(len(tree.tokens) for tree in trees)
    tokens, depths = torch.zeros(len(trees), size, dtype=torch.long), torch.zeros(len(trees), size, dtype=torch.long)
    visible = torch.eye(size, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        nodes = len(tree.tokens)
        tokens[row, :nodes], depths[row, :nodes], visible[row, :nodes, :nodes] = tree.tokens, tree.depths, tree.visible
    tokens[:, 0] = start
    return tokens, depths, visible


__all__ = ["LPMusicCapsDecisionMixin"]

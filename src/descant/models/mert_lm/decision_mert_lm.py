"""How the model scores the options of typed questions: a tree of answers behind the audio and the question."""

from typing import TYPE_CHECKING

import torch

from .answer_tree import AnswerTree, pool_states
from .decision_music import MusicDecisionMixin

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers import PreTrainedModel as Base
else:
    Base = object


class MertLMDecisionMixin(MusicDecisionMixin, Base):
    """The methods of `MertLMForConditionalGeneration` for typed questions."""

    @torch.no_grad()
    def score_options(
        self, input_features: torch.Tensor, prompts: list[list[list[int]]], trees: list[AnswerTree]
    ) -> list[torch.Tensor]:
        """Return log-probabilities (windows, options) of each question, averaged over its wordings.

        prompts: question → wordings → token ids. trees: the sentences that state each question's options.
        """
        audio = self.get_audio_features(input_features.to(self.device))
        return [
            torch.stack([self._score_tree(audio, prompt, tree) for prompt in wordings]).mean(dim=0)
            for wordings, tree in zip(prompts, trees, strict=True)
        ]

    def _score_tree(self, audio: torch.Tensor, prompt: list[int], tree: AnswerTree) -> torch.Tensor:
        """Read a prompt about every window, and the tree behind it, in one pass: (windows, options)."""
        windows, asked, nodes = len(audio), len(prompt), len(tree.tokens)
        ids = torch.tensor(prompt, device=audio.device).expand(windows, asked)
        tokens = tree.tokens.to(audio.device).clone()
        tokens[0] = self.config.decoder_start_token_id
        answers = self.get_input_embeddings()(tokens).expand(windows, nodes, -1)
        embeds = torch.cat([self.embed_prompts(ids, torch.ones_like(ids), audio), answers], dim=1)
        visible = torch.ones(asked + nodes, asked + nodes, dtype=torch.bool).tril()
        visible[asked:, asked:] = tree.visible
        blocked = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        positions = torch.cat([torch.arange(asked), asked + tree.depths]).to(audio.device)
        hidden = self.language_model.model(
            inputs_embeds=embeds.to(self.dtype),
            attention_mask=blocked.to(audio.device, self.dtype).expand(windows, 1, *blocked.shape),
            position_ids=positions.expand(windows, -1),
            use_cache=False,
        ).last_hidden_state[:, asked:]
        log_probs = self.get_output_embeddings()(hidden).float().log_softmax(dim=-1)
        return tree.gather(log_probs, pool_states(audio)).log_softmax(dim=1)


__all__ = ["MertLMDecisionMixin"]

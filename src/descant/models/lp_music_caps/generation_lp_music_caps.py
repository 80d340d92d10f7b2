"""How the model answers: one batch through `generate`, or a stream of (clip, question) pairs through `answer_many`."""

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice

import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

Pair = tuple[Hashable, torch.Tensor, list[int] | None]
Answer = tuple[int, list[int], float]


class LPMusicCapsGenerationMixin:
    """The answering methods of `LPMusicCapsForConditionalGeneration`."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_features: torch.Tensor | None = None,
        prompt_input_ids: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        fast: bool = True,
        **kwargs,
    ) -> torch.Tensor:
        """Answer each row of a batch: inputs are those of `forward`, settings those of transformers' `generate`.

        inputs: another name for input_features. labels: ignored, so that a training batch can be passed on.
        Settings that are not given come from `self.generation_config`.
        """
        if encoder_outputs is None:
            encoder_outputs, attention_mask = self.encode(
                inputs if inputs is not None else input_features,
                prompt_input_ids,
                prompt_attention_mask,
                clip_index,
                audio_embeds,
            )
        return super().generate(
            generation_config=generation_config,
            encoder_outputs=encoder_outputs,
            attention_mask=attention_mask,
            **kwargs,
        )

    @torch.no_grad()
    def answer_many(self, pairs: Iterable[Pair], *, batch_size: int = 32, **settings) -> Iterator[Answer]:
        """Answer a stream of (clip key, input_features (128, 1001), prompt ids or None) with bounded memory.

        Yields (position in the stream, token ids as `generate` gives them without padding, length-normalised log
        probability), in the order in which answers are done. settings: those of `generate`.
        """
        waiting = enumerate(pairs)
        while batch := list(islice(waiting, batch_size)):
            yield from self._answer_batch(batch, settings)

    def _answer_batch(self, batch: list[tuple[int, Pair]], settings: dict) -> Iterator[Answer]:
        clips = {key: features for _, (key, features, _) in batch}
        rows = {key: row for row, key in enumerate(clips)}
        prompts = [torch.tensor(ids or [], dtype=torch.long) for _, (_, _, ids) in batch]
        masks = [torch.ones_like(ids) for ids in prompts]
        pad = torch.nn.utils.rnn.pad_sequence
        result = self.generate(
            input_features=torch.stack([torch.as_tensor(mel) for mel in clips.values()]).to(self.device),
            clip_index=torch.tensor([rows[key] for _, (key, _, _) in batch], device=self.device),
            prompt_input_ids=pad(prompts, batch_first=True).to(self.device),
            prompt_attention_mask=pad(masks, batch_first=True).to(self.device),
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **settings,
        )
        scores = self._normalised_scores(result)
        for (index, _), tokens, score in zip(batch, result.sequences.tolist(), scores.tolist(), strict=True):
            yield index, strip_padding(tokens, self.config.pad_token_id), score

    def _normalised_scores(self, result) -> torch.Tensor:
        if "sequences_scores" in result:
            return result.sequences_scores
        tokens = result.sequences[:, 1:]
        log_probs = torch.stack(result.logits, dim=1).log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
        written = tokens != self.config.pad_token_id
        return (log_probs * written).sum(dim=1) / written.sum(dim=1)


def strip_padding(tokens: list[int], pad_token_id: int) -> list[int]:
    """Drop the padding at the end of a row of `generate`."""
    end = len(tokens)
    while end and tokens[end - 1] == pad_token_id:
        end -= 1
    return tokens[:end]

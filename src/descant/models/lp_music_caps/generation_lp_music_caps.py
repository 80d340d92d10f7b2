"""How the model answers: one batch through `generate`, or a stream of (clip, question) pairs through `answer_many`."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from transformers import GenerationConfig
from transformers.generation import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .answer_engine_lp_music_caps import Answer, AnswerEngine
from .generation_settings_lp_music_caps import AnswerSettings, NotCovered, read_settings
from .packed_models_lp_music_caps import packed_decoder
from .question_stream_lp_music_caps import Pair, QuestionStream

logger = logging.get_logger(__name__)

# Rows of one step at which the processor is at its full speed.
ROWS = 160


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
        streamer: BaseStreamer | None = None,
        fast: bool = True,
        **kwargs,
    ) -> torch.Tensor:
        """Answer each row of a batch: inputs are those of `forward`, settings those of transformers' `generate`.

        inputs: another name for input_features. labels: ignored, so that a training batch can be passed on.
        fast: use this folder's search, which gives the tokens of transformers' own in less time; where it does not
            cover a setting, transformers' own runs, with a line in the log. False: transformers' own in any case.
        Settings that are not given come from `self.generation_config`.
        """
        if encoder_outputs is None:
            features = inputs if inputs is not None else input_features
            encoder_outputs, attention_mask = self.encode(
                features, prompt_input_ids, prompt_attention_mask, clip_index, audio_embeds
            )
        states = encoder_outputs[0]
        if attention_mask is None:
            attention_mask = torch.ones(states.shape[:2], dtype=torch.long, device=states.device)
        if fast:
            try:
                settings = read_settings(self, generation_config, kwargs)
                return self._answer_batch(settings, states, attention_mask, streamer)
            except NotCovered as reason:
                logger.warning_once(f"{reason} is not covered by the fast search: transformers' own loop runs")
        return super().generate(
            generation_config=generation_config,
            encoder_outputs=BaseModelOutput(last_hidden_state=states),  # a new one: its tensors are expanded in place
            attention_mask=attention_mask,
            streamer=streamer,
            **kwargs,
        )

    def _answer_batch(
        self,
        settings: AnswerSettings,
        states: torch.Tensor,
        attention_mask: torch.Tensor,
        streamer: BaseStreamer | None,
    ) -> torch.Tensor:
        """Answer all rows of encoder states (batch, length, d_model); returns tokens (batch, longest answer)."""
        if streamer is not None and (len(states) > 1 or settings.num_beams > 1):
            raise NotCovered("streaming more than one hypothesis")
        slots = len(states) if settings.do_sample else min(len(states), max(1, ROWS // settings.num_beams))
        on_token = None
        if streamer is not None:
            streamer.put(torch.tensor([[settings.decoder_start_token_id]]))
            on_token = streamer.put
        engine = AnswerEngine(packed_decoder(self), settings, slots, on_token)
        lengths = attention_mask.sum(dim=1).tolist()
        rows = ((row, states[row, :length]) for row, length in enumerate(lengths))
        answers = {row: torch.tensor(tokens) for row, tokens, _ in engine.run(rows)}
        if streamer is not None:
            streamer.end()
        return torch.nn.utils.rnn.pad_sequence(
            [answers[row] for row in range(len(states))], batch_first=True, padding_value=settings.pad_token_id
        )

    @torch.no_grad()
    def answer_many(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 32,
        generation_config: GenerationConfig | None = None,
        **settings,
    ) -> Iterator[Answer]:
        """Answer a stream of (clip key, input_features (128, 1001), prompt ids or None) with bounded memory.

        Yields (position in the stream, token ids as `generate` gives them without padding, length-normalised log
        probability), in the order in which answers are done. Pairs with the same key are about the same clip.
        batch_size: questions in flight; twice as many pairs are read ahead. settings: those of `generate`.
        """
        stream = QuestionStream(self, pairs, ahead=2 * batch_size)
        fast = settings.pop("fast", True)
        try:
            if not fast:
                raise NotCovered("fast=False")
            covered = read_settings(self, generation_config, settings)
            if covered.do_sample:
                raise NotCovered("sampling from a stream")
            engine = AnswerEngine(packed_decoder(self), covered, batch_size)
        except NotCovered as reason:
            logger.warning_once(f"{reason} is not covered by the fast search: transformers' own loop runs")
            yield from self._answer_plainly(iter(stream), batch_size, generation_config, settings)
            return
        yield from engine.run(iter(stream))

    def _answer_plainly(
        self,
        stream: Iterator[tuple[int, torch.Tensor]],
        batch_size: int,
        generation_config: GenerationConfig | None,
        settings: dict,
    ) -> Iterator[Answer]:
        while batch := list(islice(stream, batch_size)):
            states = [states for _, states in batch]
            masks = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in states]
            pad = torch.nn.utils.rnn.pad_sequence
            outputs = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
            result = self.generate(
                generation_config=generation_config,
                encoder_outputs=BaseModelOutput(last_hidden_state=pad(states, batch_first=True)),
                attention_mask=pad(masks, batch_first=True),
                fast=False,
                **(settings | outputs),
            )
            scores = normalised_scores(result, self.config.pad_token_id).tolist()
            for (position, _), tokens, score in zip(batch, result.sequences.tolist(), scores, strict=True):
                yield position, strip_padding(tokens, self.config.pad_token_id), score


def normalised_scores(result, pad_token_id: int) -> torch.Tensor:
    """The length-normalised log probability of each answer of a result of `generate`, (batch,)."""
    if "sequences_scores" in result:
        return result.sequences_scores
    tokens = result.sequences[:, 1:]
    log_probs = torch.stack(result.logits, dim=1).log_softmax(dim=-1).gather(2, tokens[:, :, None])[:, :, 0]
    written = tokens != pad_token_id
    return (log_probs * written).sum(dim=1) / written.sum(dim=1)


def strip_padding(tokens: list[int], pad_token_id: int) -> list[int]:
    """Drop the padding at the end of a row of `generate`."""
    end = len(tokens)
    while end and tokens[end - 1] == pad_token_id:
        end -= 1
    return tokens[:end]

"""Audio and questions to what the model takes, and tokens back to text."""

from collections.abc import Sequence
from typing import Any

from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from .feature_extraction_lp_music_caps import Waveform
from .sound_input import MusicChatMixin, limit_of, pad_prompts, sort_arguments


class LPMusicCapsProcessor(MusicChatMixin, ProcessorMixin):
    """Joins `LPMusicCapsFeatureExtractor` and a BART tokenizer; decoding is the tokenizer's."""

    def __init__(
        self, feature_extractor: FeatureExtractionMixin, tokenizer: PreTrainedTokenizerBase, **kwargs: Any
    ) -> None:
        super().__init__(feature_extractor, tokenizer, **kwargs)

    def __call__(
        self,
        audio: Waveform | Sequence[Waveform] | None = None,
        text: str | Sequence[str | None] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Build `input_features` (batch, 128, 1001) from audio, `prompt_input_ids` and `prompt_attention_mask`
        (batch, longest question) from text.

        text: one question a waveform; a question of None asks for a caption, as does text=None for all.
        kwargs: padding (by default to the longest question), truncation and max_length (tokens of a question, its
            two special ones included) and pad_to_multiple_of, by themselves or in text_kwargs; in audio_kwargs, what
            `LPMusicCapsFeatureExtractor` takes; common_kwargs.

        Raises ValueError where the numbers of waveforms and questions differ, and for audio as the extractor does;
        TypeError for arguments that are unknown.
        """
        kwargs |= {"sampling_rate": sampling_rate, "return_tensors": return_tensors}
        of_text, of_audio, tensors = sort_arguments(kwargs)
        if audio is None and text is None:
            raise ValueError("neither audio nor text was given: pass audio=[waveform, …], text=[question, …] or both")
        questions = [text] if isinstance(text, str) else list(text or [])
        features = self.build_prompts(questions, **of_text)
        if audio is not None:
            features.update(self.feature_extractor(audio, **of_audio))
            self._check_counts(len(features["input_features"]), len(questions), text)
        return BatchFeature(features, tensor_type=tensors)

    def prompt_ids(self, question: str | None, max_tokens: int | None = None) -> list[int] | None:
        """Tokenize a question as `<s> question </s>`, cut at `max_tokens`; None where there is no question."""
        if question is None:
            return None
        return self.tokenizer(question, truncation=max_tokens is not None, max_length=max_tokens)["input_ids"]

    def write_prompt(self, question: str | None) -> str:
        """Return the question, which is all that the model reads besides the sound; "" asks for a caption."""
        return question or ""

    def is_prompt(self, tokens: Sequence[int]) -> bool:
        """Return whether tokens are those of a prompt: it begins with `<s>`, and an answer with what comes before."""
        return not tokens or tokens[0] == self.tokenizer.bos_token_id

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Tokenize answers as `<s> answer </s>`, which the model learns to write, cut at `max_tokens` in all."""
        if not answers:
            return []
        return self.tokenizer(list(answers), truncation=max_tokens is not None, max_length=max_tokens)["input_ids"]

    def build_prompts(
        self,
        questions: Sequence[str | None],
        padding: bool | str = True,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> dict[str, list[list[int]]]:
        """Tokenize questions as `<s> question </s>`, padded at the end; None is an empty prompt.

        Without any question there is nothing to build: an empty dictionary.
        """
        limit = limit_of(truncation, max_length, self.tokenizer.model_max_length)
        ids = [self.prompt_ids(question, limit) or [] for question in questions]
        if not any(ids):
            return {}
        return pad_prompts(ids, self.tokenizer.pad_token_id, "right", padding, max_length, pad_to_multiple_of)

    @property
    def model_input_names(self) -> list[str]:
        """The inputs that the processor builds."""
        return ["input_features", "prompt_input_ids", "prompt_attention_mask"]

    @staticmethod
    def _check_counts(num_clips: int, num_questions: int, text: object) -> None:
        if text is not None and num_clips != num_questions:
            raise ValueError(
                f"{num_clips} waveforms and {num_questions} questions were given: give one question a waveform "
                "(repeat the waveform to ask several)"
            )


LPMusicCapsProcessor.register_for_auto_class()

__all__ = ["LPMusicCapsProcessor"]

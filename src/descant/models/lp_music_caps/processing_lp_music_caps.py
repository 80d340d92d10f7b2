"""Audio and questions to what the model takes, and tokens back to text."""

from collections.abc import Sequence

from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .feature_extraction_lp_music_caps import Waveform


class LPMusicCapsProcessor(ProcessorMixin):
    """Joins `LPMusicCapsFeatureExtractor` and a BART tokenizer; decoding is the tokenizer's."""

    def __init__(self, feature_extractor, tokenizer, **kwargs) -> None:
        super().__init__(feature_extractor, tokenizer, **kwargs)

    def __call__(
        self,
        audio: Waveform | Sequence[Waveform] | None = None,
        text: str | Sequence[str | None] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Build `input_features` (batch, 128, 1001) from audio, `prompt_input_ids` and `prompt_attention_mask`
        (batch, longest question) from text.

        text: one question a waveform; a question of None asks for a caption, as does text=None for all.
        Raises ValueError where the numbers of waveforms and questions differ, and for audio as the extractor does.
        """
        if audio is None and text is None:
            raise ValueError("neither audio nor text was given: pass audio=[waveform, …], text=[question, …] or both")
        questions = [text] if isinstance(text, str) else list(text or [])
        features = self.build_prompts(questions)
        if audio is not None:
            features.update(self.feature_extractor(audio, sampling_rate=sampling_rate))
            self._check_counts(len(features["input_features"]), len(questions), text)
        return BatchFeature(features, tensor_type=return_tensors)

    def prompt_ids(self, question: str | None) -> list[int] | None:
        """The tokens `<s> question </s>`; None where there is no question."""
        return None if question is None else self.tokenizer(question)["input_ids"]

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """The tokens `<s> answer </s>` that the model learns to write, cut at `max_tokens` before the end token."""
        if not answers:
            return []
        return self.tokenizer(list(answers), truncation=max_tokens is not None, max_length=max_tokens)["input_ids"]

    def build_prompts(self, questions: Sequence[str | None]) -> dict[str, list[list[int]]]:
        """Tokenize questions as `<s> question </s>`, padded at the end to the longest; None is an empty prompt.

        Without any question there is nothing to build: an empty dictionary.
        """
        ids = [self.prompt_ids(question) or [] for question in questions]
        longest = max(map(len, ids), default=0)
        if longest == 0:
            return {}
        pad = self.tokenizer.pad_token_id
        return {
            "prompt_input_ids": [row + [pad] * (longest - len(row)) for row in ids],
            "prompt_attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in ids],
        }

    @property
    def model_input_names(self) -> list[str]:
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

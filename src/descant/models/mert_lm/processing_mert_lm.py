"""Audio and questions to what the model takes, by the language model's own chat template, and tokens back to text."""

from collections.abc import Sequence
from typing import Any

from transformers import BatchFeature, FeatureExtractionMixin, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from .feature_extraction_mert_lm import Waveform
from .sound_input import MusicChatMixin, limit_of, pad_prompts, sort_arguments

AUDIO_TOKEN = "<|audio|>"
SYSTEM_PROMPT = "You listen to music and answer questions about it."
CAPTION_REQUEST = "Describe this music."


class MertLMProcessor(MusicChatMixin, ProcessorMixin):
    """Joins an encoder's feature extractor and a language model's tokenizer; decoding is the tokenizer's."""

    def __init__(
        self,
        feature_extractor: FeatureExtractionMixin,
        tokenizer: PreTrainedTokenizerBase,
        audio_positions: int = 1,
        system_prompt: str = SYSTEM_PROMPT,
        caption_request: str = CAPTION_REQUEST,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Join both parts.

        audio_positions: placeholders that the audio takes in a prompt (`MertLMConfig.audio_positions`).
        system_prompt: the language model's instructions before each question.
        caption_request: the question that asks for a caption.
        """
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)
        self.audio_positions = audio_positions
        self.system_prompt = system_prompt
        self.caption_request = caption_request

    def __call__(
        self,
        audio: Waveform | Sequence[Waveform] | None = None,
        text: str | Sequence[str | None] | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Build `input_features` (batch, …) from audio, `prompt_input_ids` and `prompt_attention_mask` (batch, longest
        prompt, padded at the start) from text.

        text: one question a waveform; a question of None asks for a caption, as does text=None for all.
        kwargs: padding (by default to the longest prompt), truncation and max_length (tokens of a prompt, of which
            the question is cut) and pad_to_multiple_of, by themselves or in text_kwargs; in audio_kwargs, what the
            feature extractor takes; common_kwargs.

        Raises ValueError where the numbers of waveforms and questions differ, and for audio as the extractor does;
        TypeError for arguments that are unknown.
        """
        kwargs |= {"sampling_rate": sampling_rate, "return_tensors": return_tensors}
        of_text, of_audio, tensors = sort_arguments(kwargs)
        if audio is None and text is None:
            raise ValueError("neither audio nor text was given: pass audio=[waveform, …], text=[question, …] or both")
        features = {} if audio is None else dict(self.feature_extractor(audio, **of_audio))
        clips = len(features["input_features"]) if features else 0
        questions = [text] if isinstance(text, str) else [None] * clips if text is None else list(text)
        if features and clips != len(questions):
            raise ValueError(
                f"{clips} waveforms and {len(questions)} questions were given: give one question a waveform "
                "(repeat the waveform to ask several)"
            )
        return BatchFeature(features | self.build_prompts(questions, **of_text), tensor_type=tensors)

    def build_prompts(
        self,
        questions: Sequence[str | None],
        padding: bool | str = True,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
    ) -> dict[str, list[list[int]]]:
        """Tokenize questions as prompts, padded at the start; None asks for a caption."""
        limit = limit_of(truncation, max_length, self.tokenizer.model_max_length)
        ids = [self.prompt_ids(question, limit) for question in questions]
        return pad_prompts(ids, self.tokenizer.pad_token_id, "left", padding, max_length, pad_to_multiple_of)

    def prompt_ids(self, question: str | None, max_tokens: int | None = None) -> list[int]:
        """Tokenize the chat up to the answer, with the audio's placeholders before the question (None: a caption).

        Without the template's last token: after that one the answer begins, so it is the first that the model is fed
        while it answers (`MertLMConfig.decoder_start_token_id`).
        max_tokens: of the prompt; the question is cut so that it fits. Raises ValueError where nothing is left of it.
        """
        question = question or self.caption_request
        ids = self._chat_ids(question)
        kept = self.tokenizer(question, add_special_tokens=False)["input_ids"]
        while max_tokens is not None and len(ids) > max_tokens:
            kept = kept[: max_tokens - len(ids)]
            if not kept:
                least = len(self._chat_ids("")) + 1
                raise ValueError(f"max_length {max_tokens} leaves no room for a question: give at least {least}")
            ids = self._chat_ids(self.tokenizer.decode(kept))
        return ids

    def _chat_ids(self, question: str) -> list[int]:
        ids = chat_ids(self.tokenizer, self.system_prompt, question)
        placeholder = self.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
        at = ids.index(placeholder)
        return ids[:at] + [placeholder] * self.audio_positions + ids[at + 1 : -1]

    def write_prompt(self, question: str | None) -> str:
        """Return the chat up to the answer by the language model's template, with one placeholder for the audio."""
        return chat_text(self.tokenizer, self.system_prompt, question or self.caption_request)

    def is_prompt(self, tokens: Sequence[int]) -> bool:
        """Return whether tokens are those of a prompt, which holds the audio's placeholders."""
        return self.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN) in tokens

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """Tokenize answers as the model learns to write them, each with the end of its turn, cut at `max_tokens`."""
        if not answers:
            return []
        limit = None if max_tokens is None else max_tokens - 1
        ids = self.tokenizer(
            list(answers), add_special_tokens=False, truncation=limit is not None, max_length=limit
        )["input_ids"]  # fmt: skip
        return [row + [self.tokenizer.eos_token_id] for row in ids]

    @property
    def model_input_names(self) -> list[str]:
        """The inputs that the processor builds."""
        return ["input_features", "prompt_input_ids", "prompt_attention_mask"]


def chat_ids(tokenizer: PreTrainedTokenizerBase, system_prompt: str, question: str) -> list[int]:
    """Tokenize a chat of one question, with one placeholder for the audio, up to where the answer begins."""
    return tokenizer(chat_text(tokenizer, system_prompt, question), add_special_tokens=False)["input_ids"]


def chat_text(tokenizer: PreTrainedTokenizerBase, system_prompt: str, question: str) -> str:
    """Write a chat of one question, with one placeholder for the audio, up to where the answer begins."""
    messages = [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": f"{AUDIO_TOKEN}\n{question.replace(AUDIO_TOKEN, ' ')}"},
    ]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


MertLMProcessor.register_for_auto_class()

__all__ = ["MertLMProcessor"]

"""Audio and questions to what the model takes, by the language model's own chat template, and tokens back to text."""

from collections.abc import Sequence

from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from .feature_extraction_mert_lm import Waveform

AUDIO_TOKEN = "<|audio|>"
SYSTEM_PROMPT = "You listen to music and answer questions about it."
CAPTION_REQUEST = "Describe this music."


class MertLMProcessor(ProcessorMixin):
    """Joins an encoder's feature extractor and a language model's tokenizer; decoding is the tokenizer's."""

    def __init__(
        self,
        feature_extractor,
        tokenizer,
        audio_positions: int = 1,
        system_prompt: str = SYSTEM_PROMPT,
        caption_request: str = CAPTION_REQUEST,
        chat_template: str | None = None,
        **kwargs,
    ) -> None:
        """
        audio_positions: placeholders that the audio takes in a prompt (`MertLMConfig.audio_positions`).
        system_prompt: what the language model is told before each question.
        caption_request: what is asked where there is no question.
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
    ) -> BatchFeature:
        """Build `input_features` (batch, …) from audio, `prompt_input_ids` and `prompt_attention_mask` (batch, longest
        prompt, padded at the start) from text.

        text: one question a waveform; a question of None asks for a caption, as does text=None for all.
        Raises ValueError where the numbers of waveforms and questions differ, and for audio as the extractor does.
        """
        if audio is None and text is None:
            raise ValueError("neither audio nor text was given: pass audio=[waveform, …], text=[question, …] or both")
        features = {} if audio is None else dict(self.feature_extractor(audio, sampling_rate=sampling_rate))
        clips = len(features["input_features"]) if features else None
        questions = [text] if isinstance(text, str) else [None] * clips if text is None else list(text)
        if clips is not None and clips != len(questions):
            raise ValueError(
                f"{clips} waveforms and {len(questions)} questions were given: give one question a waveform "
                "(repeat the waveform to ask several)"
            )
        return BatchFeature(features | self.build_prompts(questions), tensor_type=return_tensors)

    def build_prompts(self, questions: Sequence[str | None]) -> dict[str, list[list[int]]]:
        """Tokenize questions, padded at the start to the longest."""
        ids = [self.prompt_ids(question) for question in questions]
        longest, pad = max(map(len, ids), default=0), self.tokenizer.pad_token_id
        return {
            "prompt_input_ids": [[pad] * (longest - len(row)) + row for row in ids],
            "prompt_attention_mask": [[0] * (longest - len(row)) + [1] * len(row) for row in ids],
        }

    def prompt_ids(self, question: str | None) -> list[int]:
        """The chat up to the answer, with the audio's placeholders before the question (None asks for a caption).

        Without the template's last token: after that one the answer begins, so it is the first that the model is fed
        while it answers (`MertLMConfig.decoder_start_token_id`).
        """
        ids = chat_ids(self.tokenizer, self.system_prompt, question or self.caption_request)
        placeholder = self.tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)
        at = ids.index(placeholder)
        return ids[:at] + [placeholder] * self.audio_positions + ids[at + 1 : -1]

    def answer_ids(self, answers: Sequence[str], max_tokens: int | None = None) -> list[list[int]]:
        """The tokens that the model learns to write: an answer, cut at `max_tokens`, and the end of its turn."""
        if not answers:
            return []
        limit = None if max_tokens is None else max_tokens - 1
        ids = self.tokenizer(
            list(answers), add_special_tokens=False, truncation=limit is not None, max_length=limit
        )["input_ids"]  # fmt: skip
        return [row + [self.tokenizer.eos_token_id] for row in ids]

    @property
    def model_input_names(self) -> list[str]:
        return ["input_features", "prompt_input_ids", "prompt_attention_mask"]


def chat_ids(tokenizer: PreTrainedTokenizerBase, system_prompt: str, question: str) -> list[int]:
    """A chat of one question, with one placeholder for the audio, up to where the answer begins."""
    messages = [
        {"role": "system", "content": system_prompt},
        {"role": "user", "content": f"{AUDIO_TOKEN}\n{question.replace(AUDIO_TOKEN, ' ')}"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


MertLMProcessor.register_for_auto_class()

__all__ = ["MertLMProcessor"]

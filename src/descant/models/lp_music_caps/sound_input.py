"""Sound in any form in which it is handed over, and chats and calls that hold it, to waveforms, windows and prompts.

This file lies in the folder of every model that hears, byte for byte the same.
"""

import base64
import binascii
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import urlopen

import numpy as np
import torch

from .sound_file import (
    BLOCK_S,
    SILENCE_RMS,
    measure_level,
    mix_down,
    read_blocks,
    require_finite,
    require_sound,
    warn_once,
)

if TYPE_CHECKING:  # the class that the methods are mixed into
    from transformers.processing_utils import ProcessorMixin as Base
else:
    Base = object

log = logging.getLogger(__name__)

Audio = str | os.PathLike | bytes | np.ndarray | torch.Tensor | Mapping[str, Any]
Span = tuple[float, float, np.ndarray]  # start and end of a window in seconds, its mono samples (samples,)
ONE = (str, os.PathLike, bytes, np.ndarray, torch.Tensor, Mapping)
URL_SCHEMES = ("http://", "https://")
STORAGE_SCHEMES = ("hf://", "s3://", "gs://")
DOWNLOAD_TIMEOUT_S = 60
LEAST_LAST_S = 5.0  # a last window that is shorter is heard as the last 10 s of its track
SOURCES = ("audio", "path", "url", "base64")  # keys of a message's part under which its sound stands


# Sound ---------------------------------------------------------------------------------------------------------------
def load_waveform(audio: Audio, sampling_rate: int) -> np.ndarray:
    """Read any form of audio as a mono float32 waveform (samples,) at `sampling_rate`.

    Raises ValueError where nothing can be heard: under 0.5 s, under -60 dBFS, samples that are not finite, or a file
    that is cut short, damaged or no sound.
    """
    name = describe(audio)
    while isinstance(audio, Mapping) and "audio" in audio:
        audio = audio["audio"]
    waveform, rate = _read(audio, name, sampling_rate)
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"{name}: holds no samples, or is no waveform (shape {waveform.shape})")
    if waveform.ndim == 2 and waveform.shape[0] > waveform.shape[1]:  # there are fewer channels than samples
        waveform = waveform.T
    return _resample(_mix(name, np.atleast_2d(waveform), rate), rate, sampling_rate)


def _mix(name: str, channels: np.ndarray, rate: int) -> np.ndarray:
    """Mix (channels, samples) down to (samples,) as files are, 10 s at a time, and make sure that there is sound."""
    require_finite(name, channels, rate)
    starts = range(0, channels.shape[1], BLOCK_S * rate)
    blocks = [mix_down(name, channels[:, start : start + BLOCK_S * rate]) for start in starts]
    require_sound(name, channels.shape[1] / rate, max(map(measure_level, blocks)))
    return np.concatenate(blocks)


def describe(audio: Audio) -> str:
    """Name an input in an error message."""
    if isinstance(audio, Mapping):
        named = (audio[key] for key in ("path", "audio") if audio.get(key) is not None)
        return describe(next(named, "audio given as a dict"))
    if isinstance(audio, str) and audio.startswith(URL_SCHEMES):
        parts = urlsplit(audio)  # without a password or signature
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return str(audio) if isinstance(audio, str | os.PathLike) else f"audio given as {type(audio).__name__}"


def fetch(address: str) -> bytes:
    """Return what lies behind an address; raises ValueError, in which nothing stands of what signs the address."""
    name = describe(address)
    try:
        if address.startswith(URL_SCHEMES):
            with urlopen(address, timeout=DOWNLOAD_TIMEOUT_S) as response:
                return response.read()
        import fsspec  # comes with huggingface_hub

        with fsspec.open(address, "rb") as file:
            return file.read()
    except ImportError as error:  # the driver of s3:// or gs://
        raise ImportError(f"{name}: {error}") from error
    except Exception as error:  # each driver has its own
        reason = str(error).replace(address, name) or type(error).__name__
        raise ValueError(f"{name}: cannot be fetched: {reason}") from None


def is_decoder(audio: Any) -> TypeGuard[Any]:
    """Return whether this is a decoder of torchcodec, as `datasets` makes of the files in an Audio column."""
    return hasattr(audio, "get_all_samples")


def decode_base64(text: Any, name: str = "the base64") -> bytes:
    """Return the bytes that a text of base64 holds; raises ValueError, which says `name`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError(f"{name} is no base64: {error}") from error


def decode_data_url(url: str) -> bytes:
    """Return the bytes that a `data:` URL holds; raises ValueError."""
    head, comma, body = url.partition(",")
    if not comma:
        raise ValueError("the data: URL holds no comma, behind which its content begins")
    return decode_base64(body, "the data: URL") if head.endswith(";base64") else unquote_to_bytes(body)


def spread_evenly(total: int, count: int | None) -> list[int]:
    """Return the numbers of at most `count` windows of `total`, spread evenly; all for None."""
    if (chosen := total if count is None else min(total, count)) < 1:
        raise ValueError(f"hear is {count}: give how many windows of a track are heard at most, 1 or more, or None")
    return [(2 * number + 1) * total // (2 * chosen) for number in range(chosen)]


def cut_track(waveform: np.ndarray, sampling_rate: int, window_s: float, count: int | None = 12) -> list[Span]:
    """Cut a track's mono waveform (samples,) into at most `count` windows, spread evenly; into all for None.

    In place of a last window under 5 s, the last `window_s` of the track are taken.
    """
    size, total = round(window_s * sampling_rate), len(waveform)
    starts = list(range(0, max(total, 1), size))
    if len(starts) > 1 and total - starts[-1] < LEAST_LAST_S * sampling_rate:
        starts[-1] = total - size
    pieces = [(starts[number], waveform[starts[number] : starts[number] + size])
              for number in spread_evenly(len(starts), count)]  # fmt: skip
    return [(start / sampling_rate, (start + len(piece)) / sampling_rate, piece) for start, piece in pieces]


def hear_window(audio: Audio, extractor: Any) -> np.ndarray:
    """Read sound as the one window (samples,) that a prompt has room for: of a longer recording, the middle one.

    Of its windows in which something can be heard, that is; which, is logged. Raises ValueError as `load_waveform`.
    """
    rate, window_s = extractor.sampling_rate, extractor.window_s
    spans = cut_track(load_waveform(audio, rate), rate, window_s, None)
    audible = [span for span in spans if measure_level(span[2]) >= SILENCE_RMS] or spans
    start_s, end_s, samples = audible[len(audible) // 2]
    if len(spans) > 1:
        log.warning(
            "%s: lasts %g s, of which only %g–%g s are heard; pipeline(\"music-question-answering\") hears all",
            describe(audio), round(spans[-1][1], 1), start_s, end_s,
        )  # fmt: skip
    return samples


def fetch_audio(audio: Any, extractor: Any, sampling_rate: int | None = None) -> Any:
    """Read one sound, or each of a list, as `hear_window` does: what transformers asks of a feature extractor.

    sampling_rate: of waveforms, in Hz; by default the extractor's.
    """
    if isinstance(audio, list | tuple) and not is_waveform(audio):
        return [fetch_audio(one, extractor, sampling_rate) for one in audio]
    return hear_window(add_rate(audio, sampling_rate, extractor.sampling_rate), extractor)


def is_waveform(sound: Sequence[Any]) -> bool:
    """Return whether a list holds samples, and no sounds."""
    return len(sound) > 0 and isinstance(sound[0], int | float | np.number)


def add_rate(audio: Any, given: int | None, usual: int) -> Audio:
    """Return a waveform as a dict with its sampling rate in Hz, the usual one where none is given; else the sound."""
    if isinstance(audio, list | tuple):
        audio = np.asarray(audio, dtype=np.float32)
    if not isinstance(audio, np.ndarray | torch.Tensor):
        return audio
    if given is None:
        warn_once(f"no sampling_rate was given: the waveform is taken to be at {usual} Hz")
    return {"array": audio, "sampling_rate": given or usual}


def _read(audio: Audio, name: str, sampling_rate: int) -> tuple[np.ndarray, int]:
    """Return a waveform with one or two axes, and its rate in Hz."""
    if isinstance(audio, Mapping):
        return _read_mapping(audio, name, sampling_rate)
    if is_decoder(audio):
        samples = audio.get_all_samples()
        return np.asarray(samples.data, dtype=np.float32), int(samples.sample_rate)
    if isinstance(audio, np.ndarray | torch.Tensor):
        waveform = np.asarray(audio)
        if not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(f"{name}: holds {waveform.dtype}; give floats in [-1, 1]")
        return waveform.astype(np.float32), sampling_rate
    if isinstance(audio, str) and audio.startswith((*URL_SCHEMES, *STORAGE_SCHEMES)):
        audio = fetch(audio)
    if isinstance(audio, str | os.PathLike | bytes):
        return _decode(BytesIO(audio) if isinstance(audio, bytes) else audio, name, sampling_rate), sampling_rate
    raise ValueError(f"{name}: give a path, a URL, bytes, a waveform, or a dict with array and sampling_rate")


def _read_mapping(audio: Mapping[str, Any], name: str, sampling_rate: int) -> tuple[np.ndarray, int]:
    array = audio.get("array") if audio.get("array") is not None else audio.get("raw")
    if array is not None:
        if not audio.get("sampling_rate"):
            raise ValueError(f"{name}: the array comes without its sampling_rate")
        return _read(np.asarray(array), name, sampling_rate)[0], int(audio["sampling_rate"])
    source = audio.get("bytes") or audio.get("path")
    if source is None:
        raise ValueError(f"{name}: has keys {sorted(audio)}, but no array with sampling_rate, bytes, path or audio")
    return _read(source, name, sampling_rate)


def _decode(source: str | os.PathLike | BytesIO, name: str, sampling_rate: int) -> np.ndarray:
    """Read a sound file as a mono waveform (samples,) at `sampling_rate`."""
    if isinstance(source, BytesIO):
        blocks = list(read_blocks(source, name))
    elif not os.path.isfile(source):
        raise ValueError(f"{name}: no such file")
    else:
        with open(source, "rb") as file:
            before = os.fstat(file.fileno())
            blocks = list(read_blocks(file, name))
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ValueError(f"{name}: changed while it was read")
    groups = groupby(blocks, key=itemgetter(1))  # the rate changes in some joined files
    pieces = [(np.concatenate([samples for samples, _ in group]), rate) for rate, group in groups]
    return np.concatenate([_resample(samples, rate, sampling_rate) for samples, rate in pieces])


def _resample(waveform: np.ndarray, rate: int, sampling_rate: int) -> np.ndarray:
    if rate == sampling_rate:
        return waveform
    try:
        import soxr
    except ImportError as error:
        raise ImportError("resampling takes a package: pip install soxr") from error
    return soxr.resample(waveform, rate, sampling_rate)


# Messages ------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked:
    """What a chat asks: a question (None: for a caption) about one sound."""

    audio: Audio
    question: str | None


class MusicChatMixin(Base):
    """Gives a processor transformers' message form: `apply_chat_template`."""

    def write_prompt(self, question: str | None) -> str:
        """Write what the model reads besides the sound, as text."""
        raise NotImplementedError

    def apply_chat_template(
        self,
        conversation: Any,
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        add_generation_prompt: bool = True,
        return_tensors: str | None = "pt",
        processor_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Turn a chat, or a list of chats, into what `generate` takes.

        conversation: one message, `{"role": "user", "content": [{"type": "audio", KEY: sound}, {"type": "text",
            "text": question}]}`, of one sound in any order. KEY is `path`, `url` (http, https or data), `base64` or
            `audio` (any form of sound, a waveform at `sampling_rate` too). Several texts are one question, without
            any the chat asks for a caption. A recording longer than a window is heard in its middle one, and that is
            logged.
        tokenize: False gives the text of the prompt, and reads no sound.
        return_dict: with tokenize; False gives `input_ids` alone.
        add_generation_prompt: the prompt always ends where the answer begins.
        return_tensors: None gives lists.
        processor_kwargs, kwargs: what the call of the processor takes, such as padding; sampling_rate is that of
            waveforms.

        Returns `input_features`, `prompt_input_ids` and `prompt_attention_mask`, as the processor does, and the prompt
        once more as `input_ids`, which transformers' own code looks for and the model ignores.
        Raises ValueError for sound that cannot be read or heard; for a chat without sound or with two, of several
        turns, with a system message, or that begins the answer; for settings that cannot be followed.
        """
        chats = conversation if is_batch(conversation) else [conversation]
        asked = [read_chat(chat) for chat in chats]
        refuse_given({"chat_template": chat_template} | {name: kwargs.pop(name, None) for name in NOT_FOLLOWED})
        if not tokenize:
            texts = [self.write_prompt(one.question) for one in asked]
            return texts if is_batch(conversation) else texts[0]
        inputs = self._process_chats(asked, return_tensors, **(dict(processor_kwargs or {}) | kwargs))
        return inputs if return_dict else inputs["input_ids"]

    def _process_chats(
        self, asked: Sequence["Asked"], return_tensors: str | None, sampling_rate: int | None = None, **settings: Any
    ) -> Any:
        """Read the sounds of chats, and give what `generate` takes, the prompt twice; sampling_rate: of waveforms."""
        extractor = self.feature_extractor
        sounds = [hear_window(add_rate(one.audio, sampling_rate, extractor.sampling_rate), extractor) for one in asked]
        questions = [one.question for one in asked]
        inputs = self(sounds, questions, extractor.sampling_rate, return_tensors, **settings)
        if "prompt_input_ids" not in inputs:  # captions, which LP-MusicCaps asks for without any prompt
            none: list[list[int]] = [[] for _ in asked]
            empty = none if return_tensors is None else torch.tensor(none, dtype=torch.long)  # (chats, 0)
            inputs.update({"prompt_input_ids": empty, "prompt_attention_mask": empty})
        inputs["input_ids"] = inputs["prompt_input_ids"]
        return inputs

    def post_process_multimodal_output(
        self, generated_outputs: Any, skip_special_tokens: bool = True, generation_mode: str | None = None, **_: Any
    ) -> list[str]:
        """Return the texts of answers, and none for prompts: no answer repeats its prompt.

        Transformers' pipeline decodes both, and cuts off an answer what begins as the prompt does. Long answers stay
        as the model words them: what it is not sure of can only be left out where the sound is at hand, as it is in
        `pipeline("music-question-answering")`.
        """
        if generation_mode not in (None, "text"):
            raise ValueError(f"the model writes text, and no {generation_mode}")
        rows = [list(map(int, row)) for row in generated_outputs]
        texts = self.batch_decode(rows, skip_special_tokens=skip_special_tokens)
        return ["" if self.is_prompt(row) else text.strip() for row, text in zip(rows, texts, strict=True)]

    def is_prompt(self, tokens: Sequence[int]) -> bool:
        """Return whether tokens are those of a prompt, padded or not, and not of an answer."""
        raise NotImplementedError


# Arguments of transformers' apply_chat_template that would change the prompt.
NOT_FOLLOWED = (
    "tools", "documents", "continue_final_message", "return_assistant_tokens_mask", "load_audio_from_video",
    "sanitize_control_tokens",
)  # fmt: skip


def refuse_given(arguments: Mapping[str, Any]) -> None:
    """Raise ValueError for the first argument that has a value."""
    if given := next((name for name, value in arguments.items() if value), None):
        raise ValueError(f"{given} cannot be followed: the model knows one prompt, an audio and a question")


def is_batch(conversation: Any) -> bool:
    """Return whether this is a list of chats; raises ValueError for what is neither that nor a chat."""
    if not isinstance(conversation, list | tuple) or not conversation:
        raise ValueError(f"the chat is {type(conversation).__name__}: give a list with a message")
    return not isinstance(conversation[0], Mapping)


def read_chat(messages: Any) -> Asked:
    """Read the one question of a chat and the sound that it is about; raises ValueError for any other chat."""
    if not isinstance(messages, list | tuple) or not messages or not all(isinstance(one, Mapping) for one in messages):
        raise ValueError("a chat is no list of messages: give [{\"role\": \"user\", \"content\": […]}]")
    roles = [str(one.get("role")) for one in messages]
    if "system" in roles or "developer" in roles:
        raise ValueError("the model follows no system message: leave it out")
    if other := set(roles) - {"user", "assistant"}:
        raise ValueError(f"the model knows no role {sorted(other)[0]!r}: give a message of the user")
    if roles[-1] == "assistant":
        raise ValueError("the last message is the assistant's: the model begins its answers itself, so leave it out")
    if len(messages) > 1:
        raise ValueError(
            f"{len(messages)} messages were given, and earlier ones cannot be used: ask each question by itself, with "
            "the audio"
        )
    return read_content(messages[0].get("content"))


def read_content(content: Any) -> Asked:
    """Read the parts of a message."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple) or not all(isinstance(part, Mapping) for part in parts):
        raise ValueError("a message's content is neither text nor a list of parts")
    sounds = [read_sound(part) for part in parts if part.get("type") == "audio"]
    texts = [read_text(part) for part in parts if part.get("type") == "text"]
    if other := [part.get("type") for part in parts if part.get("type") not in ("audio", "text")]:
        raise ValueError(f"a message has a part of type {other[0]!r}: the model takes audio and text")
    if len(sounds) != 1:
        found = f"{len(sounds)} sounds" if sounds else "no audio"
        raise ValueError(f"a message holds {found}: give one part with the recording that is asked about")
    return Asked(sounds[0], " ".join(filter(None, texts)) or None)


def read_text(part: Mapping[str, Any]) -> str:
    """Return the words of a part of text."""
    if not isinstance(part.get("text"), str):
        raise ValueError("a part of type 'text' holds no text")
    return part["text"].strip()


def read_sound(part: Mapping[str, Any]) -> Audio:
    """Return the sound of a part, decoded where it is base64."""
    given = [key for key in SOURCES if part.get(key) is not None]
    if len(given) != 1:
        raise ValueError(f"a part of type 'audio' holds {' and '.join(given) or 'no sound'}: give one of {SOURCES}")
    sound = part[given[0]]
    if given == ["base64"]:
        return decode_base64(sound)
    if isinstance(sound, str) and sound.startswith("data:"):
        return decode_data_url(sound)
    if isinstance(sound, list | tuple) and not is_waveform(sound):
        raise ValueError("a part of type 'audio' holds a list, and no waveform: give one sound")
    rate = part.get("sampling_rate")
    return sound if rate is None else add_rate(sound, rate, rate)


# Calls of feature extractors and processors --------------------------------------------------------------------------
def list_waveforms(audio: Any, sampling_rate: int | None, rate: int) -> list[np.ndarray]:
    """Return the mono waveforms (samples,) of a call: of one, of a list of them, or of (waveforms, samples).

    Raises ValueError for another sampling rate than `rate`, and for what is no finite mono float waveform.
    """
    if sampling_rate is None:
        warn_once(f"no sampling_rate was given: the audio is taken to be at {rate} Hz")
    elif sampling_rate != rate:
        raise ValueError(
            f"the audio has a sampling rate of {sampling_rate} Hz, the model needs {rate} Hz: resample it with "
            f"descant.data.audio.resample(waveform, {sampling_rate}, {rate}) or torchaudio.functional.resample"
        )
    several = np.ndim(audio) == 2 if hasattr(audio, "ndim") else not audio or np.ndim(audio[0]) > 0
    waveforms = [np.asarray(one) for one in (audio if several else [audio])]
    for number, waveform in enumerate(waveforms):
        if waveform.ndim != 1 or waveform.size == 0:
            raise ValueError(f"audio {number} has shape {waveform.shape}: give one mono waveform, (samples,)")
        if not np.issubdtype(waveform.dtype, np.floating):
            raise ValueError(f"audio {number} holds {waveform.dtype}: give floats in [-1, 1]")
        if not np.isfinite(waveform).all():
            raise ValueError(f"audio {number} holds NaN or infinite samples: decode it again or leave it out")
    return waveforms


# Arguments that say how questions are tokenized, and how waveforms are read; `return_tensors` is for all.
OF_TEXT = ("padding", "truncation", "max_length", "pad_to_multiple_of")
OF_AUDIO = ("sampling_rate", "device")


def sort_arguments(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Sort the arguments of a call, in the forms that transformers' processors take, by what they are for.

    Returns those of the text, those of the audio, and `return_tensors`. A name given by itself goes before one in
    common_kwargs. Raises ValueError where it is also in text_kwargs or audio_kwargs, TypeError for an unknown name.
    """
    text, audio, common = (dict(arguments.pop(f"{kind}_kwargs", None) or {}) for kind in ("text", "audio", "common"))
    flat = {**common, **{name: value for name, value in arguments.items() if value is not None}}
    tensors = flat.pop("return_tensors", None)
    for name, value in flat.items():
        goal = text if name in OF_TEXT else audio if name in OF_AUDIO else None
        if goal is None:
            raise TypeError(
                f"the processor knows no argument {name}: give {', '.join(OF_TEXT + OF_AUDIO)}, return_tensors, "
                "text_kwargs, audio_kwargs or common_kwargs"
            )
        if name in goal:
            raise ValueError(f"{name} was given twice, by itself and in text_kwargs or audio_kwargs")
        goal[name] = value
    tensors = tensors or text.pop("return_tensors", None) or audio.pop("return_tensors", None)
    return text, audio, tensors


def pad_prompts(
    rows: list[list[int]], pad: int, side: str, padding: bool | str, max_length: int | None, multiple: int | None
) -> dict[str, list[list[int]]]:
    """Pad prompts at one side to the longest, to `max_length` or not at all, as `padding` of a tokenizer says."""
    longest = max(map(len, rows), default=0)
    if padding == "max_length":
        if max_length is None:
            raise ValueError("padding='max_length' needs max_length, the tokens of the longest prompt")
        longest = max(longest, max_length)
    elif padding not in (True, "longest", False, "do_not_pad"):
        raise ValueError(f"padding is {padding!r}: give True, 'longest', 'max_length', False or 'do_not_pad'")
    longest += -longest % (multiple or 1)
    missing = [0 if padding in (False, "do_not_pad") else longest - len(row) for row in rows]
    before, after = (missing, [0] * len(rows)) if side == "left" else ([0] * len(rows), missing)
    return {
        "prompt_input_ids": [[pad] * b + row + [pad] * a for b, row, a in zip(before, rows, after, strict=True)],
        "prompt_attention_mask": [
            [0] * b + [1] * len(row) + [0] * a for b, row, a in zip(before, rows, after, strict=True)
        ],
    }


def limit_of(truncation: bool | str | None, max_length: int | None, longest: int) -> int | None:
    """Return how many tokens a prompt may have, `longest` where truncation comes without max_length; None: any."""
    if truncation in (None, False, "do_not_truncate"):
        return None
    return longest if max_length is None else max_length


__all__ = ["MusicChatMixin", "load_waveform"]

"""`pipeline("music-question-answering")`: answers to questions about recordings of any length, window by window."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from types import GeneratorType
from typing import Any, TypeGuard
from urllib.request import urlopen

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import ChunkPipeline

from .sound_file import (
    BLOCK_S,
    LEAST_S,
    SILENCE_RMS,
    measure_level,
    mix_down,
    read_blocks,
    require_finite,
    require_sound,
)

log = logging.getLogger(__name__)

Audio = str | os.PathLike | bytes | np.ndarray | torch.Tensor | Mapping[str, Any]
ONE = (str, os.PathLike, bytes, np.ndarray, torch.Tensor, Mapping)
URL_SCHEMES = ("http://", "https://")
DOWNLOAD_TIMEOUT_S = 60


class MusicQuestionAnsweringPipeline(ChunkPipeline):
    """Answers each question about each window of a recording, the last partial one included."""

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __call__(
        self, inputs: Audio | Iterable[Audio], question: str | Sequence[str] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]] | Iterator[list[dict[str, Any]]]:
        """Answer questions about one recording or about many.

        inputs: a path, a URL, the bytes of a sound file, a waveform (samples,) or (channels, samples) at the model's
            rate, a decoder of torchcodec, or a dict with `array` (or `raw`) and `sampling_rate`, with `bytes` or
            `path`, or with `audio` (any of these) and a `question` of its own. A list of them is answered as a list; a
            generator or dataset, lazily.
        question: one question or several; without one the answer is a caption.
        kwargs: batch_size, num_workers, and settings of `generate` such as num_beams. With num_return_sequences=n each
            question has n entries, the likeliest first where beams rank them. Of what return_dict_in_generate adds,
            nothing is returned: call the model's `generate` for scores.

        Returns for each recording a list of {"start_s", "end_s", "question", "answer"}; seconds are floats.
        Raises ValueError, which names the recording, where one cannot be read or heard or comes with an empty list of
        questions. A list ends with it: give a generator to have the answers before it.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if not (isinstance(inputs, (*ONE, list, Dataset, GeneratorType)) or is_decoder(inputs)):
            inputs = (item for item in inputs)  # a datasets.Dataset is no torch Dataset
        return super().__call__(inputs, **kwargs, **({} if question is None else {"question": question}))

    def _sanitize_parameters(
        self, question: str | Sequence[str] | None = None, **generate_kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return ({} if question is None else {"question": question}), generate_kwargs, {}

    def preprocess(self, audio: Audio, question: str | Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Yield one item for each window and question."""
        if isinstance(audio, Mapping):
            question = audio.get("question", question)
        questions = [question] if question is None or isinstance(question, str) else list(question)
        if not questions:
            raise ValueError(f"{describe(audio)}: comes with an empty list of questions; leave it out for a caption")
        extractor = self.processor.feature_extractor
        windows = split_windows(load_waveform(audio, extractor.sampling_rate), extractor, describe(audio))
        for number, (start_s, end_s, samples) in enumerate(windows):
            inputs = self.processor(audio=[samples], sampling_rate=extractor.sampling_rate, return_tensors="pt")
            for order, text in enumerate(questions):
                prompt = self.processor.prompt_ids(text) or []
                yield {
                    # Under the name input_features the collator would ask the extractor for a padding value.
                    "features": inputs["input_features"],
                    "prompt_input_ids": torch.tensor([prompt], dtype=torch.long),
                    "prompt_attention_mask": torch.ones((1, len(prompt)), dtype=torch.long),
                    "window": {"start_s": start_s, "end_s": end_s, "question": text},
                    "is_last": number == len(windows) - 1 and order == len(questions) - 1,
                }

    def _forward(self, model_inputs: dict[str, Any], **generate_kwargs: Any) -> dict[str, Any]:
        clips = model_inputs["features"]
        new = torch.tensor([i == 0 or not torch.equal(clips[i], clips[i - 1]) for i in range(len(clips))])
        result = self.model.generate(
            input_features=clips[new.to(clips.device)],
            clip_index=(new.cumsum(0) - 1).to(clips.device),  # the questions about a window share its convolutions
            prompt_input_ids=model_inputs["prompt_input_ids"],
            prompt_attention_mask=model_inputs["prompt_attention_mask"],
            **generate_kwargs,
        )
        tokens = result if isinstance(result, torch.Tensor) else result.sequences
        token_ids = tokens.unflatten(0, (len(clips), -1))  # (questions, answers to each, tokens)
        return {"token_ids": token_ids, "window": model_inputs["window"], "is_last": model_inputs["is_last"]}

    def postprocess(self, model_outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Turn the tokens of a recording into its answers, in the order of windows and questions."""
        return [
            {**output["window"], "answer": text.strip()}
            for output in model_outputs
            for text in self.processor.batch_decode(output["token_ids"][0], skip_special_tokens=True)
        ]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and, which transformers leaves out, the processor."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


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
    return str(audio) if isinstance(audio, str | os.PathLike) else f"audio given as {type(audio).__name__}"


def is_decoder(audio: Any) -> TypeGuard[Any]:
    """Return whether this is a decoder of torchcodec, as `datasets` makes of the files in an Audio column."""
    return hasattr(audio, "get_all_samples")


def split_windows(waveform: np.ndarray, extractor: Any, name: str) -> list[tuple[float, float, np.ndarray]]:
    """Cut a waveform into (start in s, end in s, samples) of one window each.

    A last window under 0.5 s that follows others is left out, and so are silent ones, which are logged.
    """
    rate, size = extractor.sampling_rate, extractor.num_samples
    windows: list[tuple[float, float, np.ndarray]] = []
    silent: list[tuple[float, float, np.ndarray]] = []
    for start in range(0, len(waveform), size):
        piece = waveform[start : start + size]
        if start == 0 or len(piece) >= LEAST_S * rate:
            window = start / rate, (start + len(piece)) / rate, piece
            (windows if measure_level(piece) >= SILENCE_RMS else silent).append(window)
    if silent:
        spans = ", ".join(f"{start_s:g}–{end_s:g} s" for start_s, end_s, _ in silent[:3])
        log.warning("%s: is silent in %d windows, which are left out: %s", name, len(silent), spans)
    if not windows:
        raise ValueError(f"{name}: is silent in all its windows")
    return windows


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
    if isinstance(audio, str) and audio.startswith(URL_SCHEMES):
        with urlopen(audio, timeout=DOWNLOAD_TIMEOUT_S) as response:
            audio = response.read()
    if isinstance(audio, str | os.PathLike | bytes):
        return _decode(BytesIO(audio) if isinstance(audio, bytes) else audio, name, sampling_rate), sampling_rate
    raise ValueError(f"{name}: give a path, a URL, bytes, a waveform, or a dict with array and sampling_rate")


def _read_mapping(audio: Mapping[str, Any], name: str, sampling_rate: int) -> tuple[np.ndarray, int]:
    array = audio.get("array") if audio.get("array") is not None else audio.get("raw")
    if array is not None:
        if audio.get("sampling_rate") is None:
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


__all__ = ["MusicQuestionAnsweringPipeline"]

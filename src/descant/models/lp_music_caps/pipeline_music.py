"""`pipeline("music-question-answering")` and `pipeline("music-decision")`: answers about recordings of any length.

The first gives words, for the track or by window, the second a probability for every option of typed questions. This
file lies in the folder of every question-answering model, byte for byte the same.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from types import GeneratorType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import ChunkPipeline, Pipeline

from .decision_music import MusicDecisionConfig
from .sound_file import LEAST_S, SILENCE_RMS, AudioError, measure_level
from .sound_input import ONE, Audio, Span, cut_track, decode_base64, describe, is_decoder, load_waveform
from .sure_claims import SureAnswers
from .track_music import TrackDecider, WindowAnswer, answer_track

log = logging.getLogger(__name__)

WINDOWS_HEARD = 12
# What `generate` would return beside tokens: for tracks nothing is made of it.
OUTPUTS = frozenset({
    "return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states",
})  # fmt: skip


class MusicQuestionAnsweringPipeline(ChunkPipeline):
    """Answers each question about a recording: what its windows say most often, or with `windows` about each one."""

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
        kwargs: batch_size, num_workers, settings of `generate` such as num_beams, and
            hear: how many windows of 10 s of a recording are heard at most, spread evenly (12; None: all).
            windows: True answers about each window of the whole recording, the last partial one included. Then, with
            num_return_sequences=n, each question has n entries, the likeliest first where beams rank them.
            everything: True leaves long answers as the model words them. By default they leave out what it is not sure
            of, where that was fitted.
            Of what return_dict_in_generate adds, nothing is returned: call the model's `generate` for scores.

        Returns for each recording a list of {"start_s", "end_s", "question", "answer"}, one a question; seconds are
        floats. Beside them stands what the answer about a track rests on: "windows" (how many say so, "of" how many),
        "heard" (their seconds), "confidence", "score" and "others" (other answers → windows). With `windows` the list
        has one entry a window and question, without these.
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
        self, question: str | Sequence[str] | None = None, windows: bool | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        way = {} if windows is None else {"windows": windows}
        hear = {"hear": kwargs.pop("hear")} if "hear" in kwargs else {}
        return way | hear | ({} if question is None else {"question": question}), way | kwargs, way

    def preprocess(
        self,
        audio: Audio,
        question: str | Sequence[str] | None = None,
        windows: bool = False,
        hear: int | None = WINDOWS_HEARD,
    ) -> Iterator[dict[str, Any]]:
        """Yield one item for each window and question."""
        if isinstance(audio, Mapping):
            question = audio.get("question", question)
        questions = [question] if question is None or isinstance(question, str) else list(question)
        if not questions:
            raise ValueError(f"{describe(audio)}: comes with an empty list of questions; leave it out for a caption")
        extractor = self.processor.feature_extractor
        waveform = load_waveform(audio, extractor.sampling_rate)
        if windows:
            heard = split_windows(waveform, extractor)
        else:
            heard = cut_track(waveform, extractor.sampling_rate, extractor.window_s, hear)
        audible = leave_out_silence(heard, describe(audio))
        for number, (start_s, end_s, samples) in enumerate(audible):
            inputs = self.processor(audio=[samples], sampling_rate=extractor.sampling_rate, return_tensors="pt")
            for order, text in enumerate(questions):
                prompt = self.processor.prompt_ids(text) or []
                yield {
                    # Under the name input_features the collator would ask the extractor for a padding value.
                    "features": inputs["input_features"],
                    "prompt_input_ids": torch.tensor([prompt], dtype=torch.long),
                    "prompt_attention_mask": torch.ones((1, len(prompt)), dtype=torch.long),
                    "window": {"start_s": start_s, "end_s": end_s, "question": text},
                    "is_last": number == len(audible) - 1 and order == len(questions) - 1,
                }

    def _forward(
        self, model_inputs: dict[str, Any], windows: bool = False, everything: bool = False, **generate_kwargs: Any
    ) -> dict[str, Any]:
        if not windows:
            return self._answer_for_track(model_inputs, everything, generate_kwargs)
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
        many, texts = len(tokens) // len(clips), self._decode(tokens)  # answers to each question
        said = [
            tuple(self._revise(texts[many * row : many * (row + 1)], model_inputs, row, everything))
            for row in range(len(clips))
        ]
        return {"said": said, "window": model_inputs["window"], "is_last": model_inputs["is_last"]}

    @cached_property
    def sure(self) -> SureAnswers | None:
        """What leaves unsure claims out, and knows them of clips that were just asked about; None: not fitted."""
        return SureAnswers.of(self.model)

    def _decode(self, tokens: Any) -> list[str]:
        return [text.strip() for text in self.processor.batch_decode(tokens, skip_special_tokens=True)]

    def _revise(self, texts: Sequence[str], inputs: Mapping[str, Any], row: int, everything: bool) -> list[str]:
        """Return the answers to the question of a row without what is not sure."""
        sure = None if everything else self.sure
        if sure is None:
            return list(texts)
        window = inputs["window"][row] if isinstance(inputs["window"], list) else inputs["window"]
        return [sure.revise(text, window["question"], inputs["features"][row]) for text in texts]

    def _answer_for_track(
        self, model_inputs: dict[str, Any], everything: bool, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Answer with the score of each answer, by which it is weighed."""
        clips, mask = model_inputs["features"], model_inputs["prompt_attention_mask"].bool()
        asked = zip(model_inputs["prompt_input_ids"], mask, strict=True)
        prompts = [ids[kept].tolist() or None for ids, kept in asked]
        keys, key = [], 0
        for number in range(len(clips)):  # the questions about a window share its convolutions
            key += number > 0 and not torch.equal(clips[number], clips[number - 1])
            keys.append(key)
        pairs = zip(keys, clips, prompts, strict=True)
        kept_settings = {name: value for name, value in settings.items() if name not in OUTPUTS}
        answered = sorted(self.model.answer_many(pairs, batch_size=len(clips), **kept_settings))
        texts = self._decode([tokens for _, tokens, _ in answered])
        said = [
            (*self._revise([text], model_inputs, row, everything), score)
            for row, (text, (_, _, score)) in enumerate(zip(texts, answered, strict=True))
        ]
        return {"said": said, "window": model_inputs["window"], "is_last": model_inputs["is_last"]}

    def postprocess(self, model_outputs: list[dict[str, Any]], windows: bool = False) -> list[dict[str, Any]]:
        """Turn what was said about a recording into its answers, in the order of windows and questions."""
        if not windows:
            return pool_outputs(model_outputs)
        return [
            {**output["window"], "answer": text}
            for output in model_outputs
            for text in unpack(output["said"])
        ]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and, which transformers leaves out, the processor."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def unpack(said: Any) -> Any:
    """Return what was said to one question: a list is a batch of one."""
    return said[0] if isinstance(said, list) else said


def pool_outputs(model_outputs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one answer to each question about a recording, out of those about its windows."""
    asked: dict[str | None, list[WindowAnswer]] = {}
    for output in model_outputs:
        window, said = output["window"], output["said"]
        text, score = unpack(said)
        one = WindowAnswer(window["start_s"], window["end_s"], text, score)
        asked.setdefault(window["question"], []).append(one)
    answers = []
    for question, found in asked.items():
        pooled = asdict(answer_track(question, found))
        place = {"start_s": found[0].start_s, "end_s": found[-1].end_s, "question": question}
        answers.append({**place, "answer": pooled.pop("prediction"), **pooled})
    return answers


def split_windows(waveform: np.ndarray, extractor: Any) -> list[Span]:
    """Cut a waveform into windows, a last one under 0.5 s that follows others left out."""
    rate, size = extractor.sampling_rate, extractor.num_samples
    pieces = [(start, waveform[start : start + size]) for start in range(0, len(waveform), size)]
    return [
        (start / rate, (start + len(piece)) / rate, piece)
        for start, piece in pieces
        if start == 0 or len(piece) >= LEAST_S * rate
    ]


def leave_out_silence(windows: Sequence[Span], name: str) -> list[Span]:
    """Return the windows in which something can be heard, and log the others; ValueError where there is none."""
    audible = [window for window in windows if measure_level(window[2]) >= SILENCE_RMS]
    silent = [window for window in windows if measure_level(window[2]) < SILENCE_RMS]
    if silent:
        spans = ", ".join(f"{start_s:g}–{end_s:g} s" for start_s, end_s, _ in silent[:3])
        log.warning("%s: is silent in %d windows, which are left out: %s", name, len(silent), spans)
    if not audible:
        raise ValueError(f"{name}: is silent in all its windows")
    return audible


class MusicDecisionPipeline(Pipeline):
    """Answers System One's questions (`choice`, `score`, `noul`) about a track: one answer each, for all of it."""

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, *args: Any, decision_config: MusicDecisionConfig | None = None, **kwargs: Any) -> None:
        """decision_config: in place of the model's own `decision.json`."""
        super().__init__(*args, **kwargs)
        self.decision_config = decision_config or self.model.decision_config

    def __call__(self, inputs: Any, questions: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Answer typed questions about one track, or about each of a list.

        inputs: a track, or a request `{"state": track, "questions": {name: question}, "assets": {name: track}}`, or
            its JSON. A track is a path, a URL, the bytes of a sound file, a waveform (samples,) at the model's rate, a
            dict with `array` and `sampling_rate`, with `bytes` or `path`, System One's asset `{"type": "audio",
            "format": "wav", "data_base64": …}`, or the name of one of the request's assets.
        questions: for tracks that come without their own.
        kwargs: assets; hear, how many windows of a track are heard at most, spread evenly (12; None: all).

        Returns the answers by the names of the questions, as `TrackDecider.decide` gives them; a list of tracks gives
        a list. Raises ValueError for questions or sound that cannot be read.
        """
        inputs = list(inputs) if isinstance(inputs, tuple) else inputs
        return super().__call__(inputs, **kwargs, **({} if questions is None else {"questions": questions}))

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        unknown = sorted(kwargs.keys() - {"assets", "questions", "hear"})
        if unknown:
            raise TypeError(f"music-decision takes questions, assets and hear, and no {unknown[0]}")
        return kwargs, {}, {}

    def preprocess(
        self,
        request: Any,
        questions: Mapping[str, Any] | None = None,
        assets: Mapping[str, Any] | None = None,
        hear: int | None = WINDOWS_HEARD,
    ) -> dict[str, Any]:
        """Read a request's sound as windows, and its questions."""
        request = read_request(request)
        asked = request.get("questions", questions)
        if not isinstance(asked, Mapping) or not asked:
            raise ValueError("no questions were given: pass questions={name: {…}}, or a request that holds them")
        extractor = self.processor.feature_extractor
        track = find_track(request.get("state"), {**(assets or {}), **(request.get("assets") or {})})
        try:
            waveform = load_waveform(track, extractor.sampling_rate)
        except AudioError as error:
            if error.silent_s is None:
                raise
            return {"windows": [], "questions": dict(asked)}
        windows = cut_track(waveform, extractor.sampling_rate, extractor.window_s, hear)
        return {"windows": windows, "questions": dict(asked)}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        decider = TrackDecider(self.model, self.processor, model_inputs["questions"], self.decision_config)
        return decider.decide(model_inputs["windows"])

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """Return the answers as they are."""
        return model_outputs

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and, which transformers leaves out, the processor."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def read_request(request: Any) -> Mapping[str, Any]:
    """Return a request as a mapping with `state`; whatever is no request is itself the track that is asked about."""
    if isinstance(request, str) and request.lstrip().startswith("{"):
        try:
            request = json.loads(request)
        except ValueError as error:
            raise ValueError(f"the request is no JSON: {error}") from error
    return request if isinstance(request, Mapping) and "state" in request else {"state": request}


def find_track(state: Any, assets: Mapping[str, Any]) -> Any:
    """Return what is asked about, an asset in place of its name, decoded where it is in base64."""
    track = assets[state] if isinstance(state, str) and state in assets else state
    if isinstance(track, Mapping) and "data_base64" in track:
        if track.get("type", "audio") != "audio":
            raise ValueError(f"the asset is of type {track['type']!r}: only audio can be heard")
        return decode_base64(track["data_base64"], "the asset's data_base64")
    if not isinstance(track, ONE) and not hasattr(track, "get_all_samples"):
        raise ValueError(f"the state is {type(track).__name__}: give a path, bytes, a waveform or an audio asset")
    return track


__all__ = ["MusicDecisionPipeline", "MusicQuestionAnsweringPipeline"]

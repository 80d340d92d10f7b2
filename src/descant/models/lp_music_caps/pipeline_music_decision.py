"""`pipeline("music-decision")`: typed questions about whole tracks, answered with a probability for every option.

This file lies in the folder of every question-answering model, byte for byte the same.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from transformers.pipelines.base import Pipeline

from .decision_music import MusicDecisionConfig
from .sound_file import AudioError
from .sound_input import ONE, cut_track, decode_base64, load_waveform
from .track_music import TrackDecider

WINDOWS_HEARD = 12


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
        track = find_track(request.get("state"), {**(assets or {}), **request.get("assets", {})})
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


__all__ = ["MusicDecisionPipeline"]

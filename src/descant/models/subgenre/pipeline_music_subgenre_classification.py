"""`pipeline("music-subgenre-classification")`: genres and subgenres of tracks from lyrics, captions and sound."""

import os
from collections.abc import Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import Pipeline

from .modeling_subgenre import list_thresholds, name_labels

Track = Mapping[str, Any]
FIELDS = ("lyrics", "captions", "audio_embeds", "audio")
LISTENING = "music-question-answering"
WINDOWS_AT_ONCE = 32  # of sound, embedded in one go


class MusicSubgenreClassificationPipeline(Pipeline):
    """Names the genres and subgenres of tracks; where a track comes with its sound, the captioner listens first."""

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._captioner: tuple[str | None, Any] = (None, None)  # the last one loaded, and its name

    def __call__(
        self, inputs: Track | Iterable[Track], **kwargs: Any
    ) -> dict[str, Any] | list[dict[str, Any]] | Iterator[dict[str, Any]]:
        """Name the labels of one track or of many.

        inputs: a dict with `lyrics` (a text), `captions` (a text or sentences), `audio_embeds` (audio_dim,) and
            `audio` (anything that the captioner's pipeline hears), or some of them. Sound gives the captions and
            embeddings that are not given. A list is answered as a list; a generator or dataset, lazily.
        kwargs: `captioner` (a folder, a Hub id or a loaded pipeline; by default the one that the model was trained
            with), batch_size, num_workers.

        Returns for each track {"genres": …, "subgenres": …, "captions": …}: two lists of {"label", "score"}, the
        likeliest label first, and the sentences that were read. There is a genre always, and no subgenre without its
        genre. Raises ValueError for a track of which nothing is known, and where there is no captioner for its sound.
        """
        if isinstance(inputs, tuple):
            inputs = list(inputs)
        if isinstance(inputs, list) and not inputs:
            return []
        if not isinstance(inputs, (Mapping, str, list, Dataset, GeneratorType)):
            inputs = (item for item in inputs)  # a datasets.Dataset is no torch Dataset
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, captioner: Any = None) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, ({} if captioner is None else {"captioner": captioner}), {}

    def preprocess(self, track: Track) -> dict[str, Any]:
        """Check that something is known of the track; no tensors yet, for tracks differ in their windows."""
        if not isinstance(track, Mapping) or all(track.get(name) is None for name in FIELDS):
            raise ValueError(f"a track is a dict with {', '.join(FIELDS)}, or some of them; this is {describe(track)}")
        return {"track": {name: track.get(name) for name in FIELDS}}

    def _forward(self, model_inputs: dict[str, Any], captioner: Any = None) -> dict[str, Any]:
        tracks = model_inputs["track"]
        alone = isinstance(tracks, Mapping)  # then it was not collated, and what it becomes is not taken apart
        heard = [self._listen(track, captioner) for track in ([tracks] if alone else tracks)]
        columns = {name: [track[name] for track in heard] for name in ("lyrics", "captions", "audio_embeds")}
        inputs = self.processor(**columns, return_tensors="pt")
        logits = self.model(**self._ensure_tensor_on_device(dict(inputs), self.device)).logits
        captions = columns["captions"]
        return {
            "probabilities": logits.float().sigmoid().cpu(),
            "thresholds": list_thresholds(self.model.config, inputs["modality_mask"]),
            "captions": captions[0] if alone else captions,
        }

    def postprocess(self, model_outputs: dict[str, Any]) -> dict[str, Any]:
        """Name the labels from their thresholds on."""
        config = self.model.config
        probabilities, thresholds = model_outputs["probabilities"], model_outputs["thresholds"]  # (1, labels)
        named = name_labels(probabilities, thresholds, torch.tensor(config.parents, dtype=torch.long))[0]
        order = probabilities[0].argsort(descending=True, stable=True).tolist()
        found = [(place, float(probabilities[0, place])) for place in order if named[place]]
        genres = len(config.genres)
        return {
            "genres": [{"label": config.id2label[one], "score": score} for one, score in found if one < genres],
            "subgenres": [{"label": config.id2label[one], "score": score} for one, score in found if one >= genres],
            "captions": model_outputs["captions"] or [],
        }

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and, which transformers leaves out, the processor."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _listen(self, track: Track, captioner: Any) -> Track:
        """The track with the captions and the embedding that its sound gives where it lacks them."""
        captions = [track["captions"]] if isinstance(track["captions"], str) else track["captions"]
        track = {**track, "captions": None if captions is None else list(captions)}
        if track["audio"] is None or None not in (track["captions"], track["audio_embeds"]):
            return track
        listener = self._load_captioner(captioner)
        if track["captions"] is None:
            config = self.model.config
            questions = config.questions or [None]
            said = listener(
                track["audio"], question=questions, batch_size=WINDOWS_AT_ONCE, **config.captioner_generation
            )
            track["captions"] = [one["answer"] for one in said if one["answer"].strip()]
        if track["audio_embeds"] is None:
            track["audio_embeds"] = embed_audio(listener, track["audio"])
        return track

    def _load_captioner(self, captioner: Any) -> Any:
        """The pipeline that listens; one given by its name is loaded once."""
        wanted = self.model.config.find_captioner() if captioner is None else captioner
        if wanted is None:
            raise ValueError(
                "a track has audio, and the model names no captioner to hear it with: give captioner=, or captions "
                "and audio_embeds in place of the audio"
            )
        if not isinstance(wanted, str | os.PathLike):
            return wanted
        if self._captioner[0] != str(wanted):
            self._captioner = str(wanted), load_listener(str(wanted), self.device)
        return self._captioner[1]


def load_listener(source: str, device: torch.device) -> Any:
    """The pipeline of a captioner's folder or Hub id; ValueError where it is gone or is no captioner.

    Who trusts the code of the classifier's repository trusts that of the captioner which it names, too.
    """
    from transformers import pipeline

    trusted = __name__.startswith("transformers_modules.")
    try:
        return pipeline(LISTENING, model=source, device=device, trust_remote_code=trusted)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"captioner {source} cannot be loaded ({reason}): give another one as captioner=") from error


@torch.no_grad()
def embed_audio(listener: Any, audio: Any) -> torch.Tensor:
    """The mean over positions and windows, by their length, of the captioner's audio embedding, (width,)."""
    windows = list(listener.preprocess(audio))
    features = [one["mel"] for one in windows]
    means = []
    for start in range(0, len(features), WINDOWS_AT_ONCE):
        batch = torch.cat(features[start : start + WINDOWS_AT_ONCE]).to(listener.model.device)
        means.append(listener.model.get_audio_features(batch).mean(dim=1).float().cpu())
    seconds = torch.tensor([one["place"]["end_s"] - one["place"]["start_s"] for one in windows])
    return seconds @ torch.cat(means) / seconds.sum()


def describe(track: Any) -> str:
    """What was given in place of a track, in an error message."""
    return f"a dict with {sorted(track)}" if isinstance(track, Mapping) else f"a {type(track).__name__}"


__all__ = ["MusicSubgenreClassificationPipeline"]

"""`pipeline("music-subgenre-classification")`: genres and subgenres of tracks from lyrics, captions and sound."""

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers.pipelines.base import Pipeline

from .modeling_subgenre import list_thresholds, name_labels

Track = Mapping[str, Any]
FIELDS = ("lyrics", "captions", "audio_embeds", "audio")
LISTENING = "music-question-answering"
SHIPPED = "box"  # the captioner that comes with descant, by the name that configurations give it on every machine
WINDOWS_AT_ONCE = 32  # of sound, embedded in one go


class MusicSubgenreClassificationPipeline(Pipeline):
    """Names the genres and subgenres of tracks; the sound of a track is captioned and embedded first."""

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
            `audio` (anything that the captioner's pipeline reads), or some of them. Captions and embeddings that are
            missing are made from the sound. A list is answered as a list; a generator or dataset, lazily.
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
        complete = [self._listen(track, captioner) for track in ([tracks] if alone else tracks)]
        columns = {name: [track[name] for track in complete] for name in ("lyrics", "captions", "audio_embeds")}
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
        labels = [(index, float(probabilities[0, index])) for index in order if named[index]]
        genres = len(config.genres)
        return {
            "genres": [{"label": config.id2label[index], "score": score} for index, score in labels if index < genres],
            "subgenres": [
                {"label": config.id2label[index], "score": score} for index, score in labels if index >= genres
            ],
            "captions": model_outputs["captions"] or [],
        }

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and, which transformers leaves out, the processor."""
        super().save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def _listen(self, track: Track, captioner: Any) -> Track:
        """Return the track, with captions and embedding made from its sound where it lacks them."""
        captions = [track["captions"]] if isinstance(track["captions"], str) else track["captions"]
        track = {**track, "captions": None if captions is None else list(captions)}
        if track["audio"] is None or None not in (track["captions"], track["audio_embeds"]):
            return track
        listener = self._load_captioner(captioner)
        if track["captions"] is None:
            config = self.model.config
            questions = config.questions or [None]
            settings = {"windows": True, "batch_size": WINDOWS_AT_ONCE, **config.captioner_generation}
            answers = listener(track["audio"], question=questions, **settings)
            track["captions"] = [answer["answer"] for answer in answers if answer["answer"].strip()]
        if track["audio_embeds"] is None:
            track["audio_embeds"] = embed_audio(listener, track["audio"])
        return track

    def _load_captioner(self, captioner: Any) -> Any:
        """Return the captioner's pipeline; one given by its name is loaded once."""
        source = self.model.config.find_captioner() if captioner is None else captioner
        if source is None:
            raise ValueError(
                "a track has audio, and the model names no captioner for it: give captioner=, or captions and "
                "audio_embeds in place of the audio"
            )
        if not isinstance(source, str | os.PathLike):
            return source
        if self._captioner[0] != str(source):
            self._captioner = str(source), load_listener(str(source), self.device)
        return self._captioner[1]


def load_listener(source: str, device: torch.device) -> Any:
    """Load the pipeline of a captioner's folder or Hub id; raises ValueError where that is missing or no captioner.

    Who trusts the code of the classifier's repository trusts that of the captioner which it names, too.
    """
    from transformers import pipeline

    trusted = __name__.startswith("transformers_modules.")
    try:
        if source == SHIPPED:
            source = str(import_module("descant.models.box").FOLDER)
        return pipeline(LISTENING, model=source, device=device, trust_remote_code=trusted)
    except (ImportError, OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"captioner {source} cannot be loaded ({reason}): give another one as captioner=") from error


@torch.no_grad()
def embed_audio(listener: Any, audio: Any) -> torch.Tensor:
    """Average the captioner's vectors of windows, weighted by their length: (width,)."""
    windows = list(listener.preprocess(audio, windows=True))
    features = [window["features"] for window in windows]
    means = []
    for start in range(0, len(features), WINDOWS_AT_ONCE):
        batch = torch.cat(features[start : start + WINDOWS_AT_ONCE]).to(listener.model.device)
        means.append(listener.model.pool_audio(batch).float().cpu())
    seconds = torch.tensor([item["window"]["end_s"] - item["window"]["start_s"] for item in windows])
    return seconds @ torch.cat(means) / seconds.sum()


def describe(track: Any) -> str:
    """Name what was given in place of a track, in an error message."""
    return f"a dict with {sorted(track)}" if isinstance(track, Mapping) else f"a {type(track).__name__}"


__all__ = ["MusicSubgenreClassificationPipeline"]

"""A loaded subgenre classifier: the labels of a track, and the pieces of it on which each label rests."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from descant.inference.classification import Evidence, NamedLabel
from descant.inference.model_folder import CLASSIFYING, find_model, load_model
from descant.inference.track_parts import TrackParts, take_pieces_away
from descant.models.subgenre.modeling_subgenre import name_labels

PIECES_SHOWN = 3
LEAST_DROP = 0.001  # below it a piece is not worth naming


class TrackClassifier:
    """A model and its processor; `name` is what the records call it."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, name: str, batch_size: int = 32) -> None:
        self.model, self.processor, self.name, self.batch_size = model, processor, name, batch_size
        config = model.config
        self.labels = [config.id2label[place] for place in range(config.num_labels)]
        self.parents = torch.tensor(config.parents, dtype=torch.long)

    @classmethod
    def load(cls, source: str, batch_size: int = 32) -> "TrackClassifier":
        """From a folder or the Hub, onto the GPU where there is one; raises ModelFolderError."""
        model, processor = load_model(find_model(source, CLASSIFYING), auto=CLASSIFYING)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor, source, batch_size)

    def classify(self, track: TrackParts, explain: bool = True) -> tuple[list[NamedLabel], dict[str, float]]:
        """The named labels, genres first and the likeliest first, and the probability of every label.

        explain: look for the pieces without which a label's probability falls most (occlusion, Zeiler and Fergus
            2014).
        Raises ValueError where nothing is known of the track, or its embedding has another width than the model's.
        """
        pieces = list(take_pieces_away(track)) if explain else []
        probabilities = self.score([track, *(without for _, without in pieces)])
        own, drops = probabilities[0], probabilities[0] - probabilities[1:]
        thresholds = torch.tensor(self.model.config.list_thresholds(track.modalities))
        named = name_labels(torch.from_numpy(probabilities[:1]), thresholds, self.parents)[0].numpy()
        genres = len(self.labels) - len(self.parents)
        places = sorted(np.flatnonzero(named), key=lambda place: (place >= genres, -own[place]))
        labels = []
        for place in places:
            heaviest = np.argsort(-drops[:, place], kind="stable")[:PIECES_SHOWN]
            evidence = [Evidence(pieces[one][0], float(drops[one, place])) for one in heaviest]
            evidence = [one for one in evidence if one.drop >= LEAST_DROP]
            labels.append(NamedLabel(self.labels[place], float(own[place]), evidence))
        return labels, dict(zip(self.labels, own.tolist(), strict=True))

    @torch.no_grad()
    def score(self, tracks: Sequence[TrackParts]) -> np.ndarray:
        """Probabilities (tracks, labels), genres first."""
        found = []
        for start in range(0, len(tracks), self.batch_size):
            batch = tracks[start : start + self.batch_size]
            inputs = self.processor(
                lyrics=[one.lyrics for one in batch], captions=[one.captions for one in batch],
                audio_embeds=[one.audio_embeds for one in batch], return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
            found.append(self.model(**inputs).logits.float().sigmoid().cpu())
        return torch.cat(found).numpy()

"""The end of a subgenre run: the records of what was read, the card, and the Hub where it is asked for."""

import hashlib
import logging
from pathlib import Path

from descant.publish import publish_folder, write_card
from descant.publish.card import describe_hardware
from descant.training.records import describe_data, inherit_records, write_records
from descant.training.subgenre.data import SubgenreData
from descant.training.subgenre.examples import Example
from descant.training.subgenre.settings import SubgenreSettings

log = logging.getLogger(__name__)


def record_data(folder: Path, data: SubgenreData, settings: SubgenreSettings) -> None:
    """What the classifier was trained on, and what its captioner was: the licences of both bind it."""
    heard, heard_clips = inherit_records(data.captioner) if data.captioner else ([], {})
    tracks = {example.track_id: _digest(example) for example in data.examples["train"]}
    corpus = data.corpus
    entry = describe_data(corpus.id, corpus.revision, corpus.licence, tracks, ["tracks"])
    write_records(folder, [*heard, entry], heard_clips | tracks, settings.init_from)


def describe_and_push(folder: Path, data: SubgenreData, settings: SubgenreSettings, hours: float) -> None:
    """Write the card, and push the folder in one commit where `--push_to_hub` asks for it."""
    hardware = describe_hardware(settings.world_size, settings.device.type)
    base_model = settings.init_from or settings.text_encoder
    write_card(folder, hardware=hardware, hours=hours, base_model=base_model, repo_id=settings.hub_model_id)
    if settings.publish:
        private = bool(settings.hub_private_repo)
        url = publish_folder(folder, settings.hub_model_id, private=private, licence=settings.license)
        log.info("pushed: %s", url)


def _digest(example: Example) -> str:
    """sha256 of what was read of a track."""
    digest = hashlib.sha256((example.lyrics or "").encode("utf-8", "surrogateescape"))
    if example.audio_embeds is not None:
        digest.update(example.audio_embeds.tobytes())
    return digest.hexdigest()

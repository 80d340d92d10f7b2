"""The end of a run: the model folder with its records and card, and the Hub repository where one is asked for."""

import logging
from pathlib import Path

from peft import PeftModel

from descant.data.sources import Corpus
from descant.publish import check_push, publish_folder, write_card
from descant.publish.card import describe_hardware
from descant.publish.facts import read_facts
from descant.publish.licence import choose_licence
from descant.publish.parts import describe_part
from descant.training.arguments import TrainingSettings
from descant.training.data import TrainingData
from descant.training.records import describe_data, hash_clips, inherit_records, write_records
from descant.training.start import naming_failures
from descant.training.trainer import DescantTrainer

log = logging.getLogger(__name__)


def check_hub(settings: TrainingSettings, corpus: Corpus) -> None:
    """Make sure, before hours are spent, that the records of `--init_from` can be carried on, and that what is trained
    may be pushed to `--hub_model_id`.

    Raises:
        ValueError: records out of reach, no `--hub_model_id`, no permission, no licence, or an adapter whose base is
            not on the Hub.
    """
    with naming_failures(f"--init_from {settings.init_from}"):
        earlier = inherit_records(settings.init_from)[0] if settings.init_from else []
    if not settings.publish:
        return
    if not settings.hub_model_id:
        raise ValueError("--push_to_hub needs --hub_model_id NAME/MODEL")
    if settings.lora and not _has_public_base(settings):
        raise ValueError("--push_to_hub of a LoRA adapter needs --init_from HUB_ID: an adapter names its base by it")
    data = [*earlier, {"id": corpus.id, "licence": corpus.licence}]
    choose_licence(data, settings.license, [describe_part(name) for name in _named_parts(settings)])
    if settings.process_index == 0:
        check_push(settings.hub_model_id, private=bool(settings.hub_private_repo))


def _has_public_base(settings: TrainingSettings) -> bool:
    """Whether those who load the adapter can load what it is for: a Hub model, or the parts that a model names."""
    on_hub = settings.init_from and not Path(settings.init_from).exists()
    return bool(on_hub or len(_named_parts(settings)) == 2)


def _named_parts(settings: TrainingSettings) -> list[str]:
    """The parts that the model to train is joined from, as far as a folder or the settings name them."""
    if settings.init_from:
        return list(read_facts(settings.init_from).parts) if Path(settings.init_from).exists() else []
    return [name for name in (settings.audio_encoder, settings.text_model) if name]


def save_model(trainer: DescantTrainer, data: TrainingData, settings: TrainingSettings) -> Path:
    """The model folder: weights, processor, and what it was trained on."""
    folder = Path(settings.output_dir)
    trainer.save_model(str(folder))
    if trainer.accelerator.is_main_process:
        if isinstance(trainer.model, PeftModel):
            trainer.model.get_base_model().save_beside_adapter(str(folder))
        clips = hash_clips(data.features, {row.clip_id for row in data.rows.rows})
        corpus = data.corpus
        entry = describe_data(corpus.id, corpus.revision, corpus.licence, clips, sorted(data.configs))
        write_records(folder, [entry], clips, settings.init_from)
    trainer.accelerator.wait_for_everyone()
    return folder


def describe_and_push(trainer: DescantTrainer, settings: TrainingSettings, hours: float) -> None:
    """Write the model card, and push the folder in one commit where `--push_to_hub` asks for it."""
    if not trainer.accelerator.is_main_process:
        return
    base_model = settings.init_from or settings.text_init_from
    hardware = describe_hardware(settings.world_size, settings.device.type)
    write_card(
        settings.output_dir, hardware=hardware, hours=hours, base_model=base_model, repo_id=settings.hub_model_id
    )
    if settings.publish:
        private = bool(settings.hub_private_repo)
        log.info("pushed: %s", publish_folder(
            settings.output_dir, settings.hub_model_id, private=private, licence=settings.license
        ))  # fmt: skip

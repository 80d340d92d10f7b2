"""What a model folder says of itself: the facts that its card states."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from descant.files import write_whole
from descant.hub_client import PublishError
from descant.publish.licence import describe_part

FACTS_FILE = "training_facts.json"


DATA_FILE = "training_data.json"


RUN_FILE = "run.json"


SCORES_FILE = "scores.json"


LISTENING_FILE = "listening.json"


PARTS = ("audio_model_id", "text_model_id")


@dataclass(frozen=True)
class ModelFacts:
    """Everything a card can state. What the folder does not say stays empty, and the card leaves it out.

    `sampling_rate` and `window_s` are None of a model that does not hear by itself; `config` is its whole config.json.
    """

    folder: Path
    is_adapter: bool
    pipeline: str | None
    processor_class: str
    parameters: int
    sampling_rate: int | None
    window_s: float | None
    base_model: str | None
    datasets: list[dict[str, Any]] | None
    recipe: str | None
    stages: list[list[Any]]
    settings: dict[str, Any]
    licence: str | None
    hardware: str | None
    hours: float | None
    versions: dict[str, str] = field(default_factory=dict)
    scores: list[dict[str, Any]] = field(default_factory=list)
    listening: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()  # the models that this one is joined from and does not hold itself
    part_licences: list[dict[str, Any]] = field(default_factory=list)  # their ids and licences


def read_facts(folder: str | Path, base_model: str | None = None) -> ModelFacts:
    """Reads the processor's settings, weights' headers and the records that training and scoring left in `folder`.

    Args:
        base_model: the Hub id to name as the base, where the folder names none or a local path.

    Raises:
        PublishError: no weights or no processor in it, or a record that is not JSON.
    """
    folder = Path(folder)
    adapter, told = read_json(folder / "adapter_config.json"), read_json(folder / FACTS_FILE)
    config, run = read_json(folder / "config.json"), told.get("run") or read_json(folder / RUN_FILE)
    parts = tuple(config[name] for name in PARTS if config.get(name))
    named = (base_model, adapter.get("base_model_name_or_path"), told.get("base_model"), run.get("init_from"))
    return ModelFacts(
        folder=folder,
        is_adapter=bool(adapter),
        pipeline=max(config.get("custom_pipelines", {}), default=None),  # music-question-answering of two
        parameters=count_parameters(folder),
        base_model=next((name for name in named if name), None),
        datasets=read_json(folder / DATA_FILE) or None,
        licence=told.get("licence"),
        hardware=told.get("hardware"),
        hours=told.get("hours"),
        versions=told.get("versions", {}),
        scores=_read_scores(folder),
        listening=read_json(folder / LISTENING_FILE),
        config=config,
        parts=parts,
        part_licences=[describe_part(name) for name in parts],
        **_read_processor(folder),
        **_split_run(run),
    )


def _read_processor(folder: Path) -> dict[str, Any]:
    processor = read_json(folder / "processor_config.json")
    if not processor:
        raise PublishError(f"{folder} holds no processor_config.json: save the processor beside the model")
    extractor = processor.get("feature_extractor", {})
    return {
        "processor_class": processor["processor_class"],
        "sampling_rate": extractor.get("sampling_rate"),
        "window_s": extractor.get("window_s"),
    }


def _split_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe and its stages apart from the settings that were given."""
    apart = ("recipe", "stages")
    settings = {name: value for name, value in run.items() if name not in apart and value is not None}
    return {"recipe": run.get("recipe"), "stages": run.get("stages", []), "settings": settings}


def _read_scores(folder: Path) -> list[dict[str, Any]]:
    """One set of scores, or several."""
    scores = read_json(folder / SCORES_FILE)
    return [scores] if isinstance(scores, dict) and scores else list(scores)


def count_parameters(folder: Path) -> int:
    """Numbers stored in the folder's safetensors files; tied weights count once.

    Raises:
        PublishError: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PublishError(
            f"{folder} holds no model.safetensors and no adapter_model.safetensors: "
            "give the folder that save_pretrained or a recipe wrote"
        )
    total = 0
    for file in files:
        with safe_open(file, framework="pt") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def read_json(path: Path) -> Any:
    """A JSON file's content; an empty dictionary where there is no such file."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PublishError(f"{path} is not JSON ({error}): write it again or remove it") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")

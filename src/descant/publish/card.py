"""The card of a model: metadata for the Hub and text for people, rendered from the folder's facts."""

import json
import logging
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import torch
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from descant.files import hold_lock, write_whole
from descant.hub_client import PublishError
from descant.publish.facts import (
    FACTS_FILE,
    RUN_FILE,
    SCORES_FILE,
    ModelFacts,
    Run,
    TrainingFacts,
    read_facts,
    read_json,
    read_list,
    read_object,
    write_json,
)
from descant.publish.licence import choose_licence, is_hub_id, is_non_commercial, load_card, public_name

log = logging.getLogger(__name__)

MARK = "<!-- Written by descant from the files beside it. Remove this line to keep changes of yours. -->"
# Left by peft and by Trainer; neither says anything of this model.
STUBS = ("# Model Card for Model ID", "generated automatically according to the information the Trainer")
TASK = "audio-text-to-text"
TAGS = ["music", "music-captioning", "music-question-answering", "audio", "descant"]
TEMPLATE = "model_card.md.jinja"
# What is different for the processors of other kinds of models: template, task, tags.
OTHER_KINDS = {
    "SubgenreProcessor": (
        "subgenre_card.md.jinja", "audio-classification",
        ["music", "music-genre-classification", "subgenre", "lyrics", "audio", "descant"],
    ),
}  # fmt: skip
# From these the Hub fills model pages and the leaderboards of datasets; others' results lie beside them.
# Format: https://huggingface.co/docs/hub/eval-results
EVAL_RESULTS = ".eval_results"
OUR_RESULTS = f"{EVAL_RESULTS}/descant-*.yaml"
VERSIONS = ("descant", "torch", "transformers", "accelerate", "datasets", "peft")


def write_card(
    folder: str | Path, *, hardware: str | None = None, hours: float | None = None, base_model: str | None = None,
    repo_id: str | None = None, licence: str | None = None,
) -> Path:  # fmt: skip
    """Write README.md, and `training_facts.json`, from which a push or a later call with fewer facts writes it again.

    Args:
        folder: the model folder, with its records (`run.json`, `training_data.json`, `scores.json`) in it.
        hardware: such as `describe_hardware(…)`; hours: of training.
        base_model: Hub id or folder that the weights began from.
        repo_id: where it will be pushed; the example then names it.
        licence: of the model, where the data leave it open.

    Raises:
        PublishError: see `read_facts` and `choose_licence`.
    """
    folder = Path(folder)
    told = {"hardware": hardware, "hours": hours, "base_model": base_model and public_name(base_model)}
    told["licence"] = licence
    before = read_object(folder / FACTS_FILE, TrainingFacts)
    if hardware or "versions" not in before:
        told["versions"] = {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}
    if hardware or "run" not in before:  # its paths are known as such in the folder that training was started from
        told["run"] = {name: public_name(value) for name, value in read_object(folder / RUN_FILE, Run).items()}
    write_json(folder / FACTS_FILE, before | {name: value for name, value in told.items() if value})
    facts = read_facts(folder)
    path = folder / "README.md"
    write_whole(path, render_card(facts, repo_id or folder.name, _licence_so_far(facts)))
    return path


def describe_hardware(processes: int, device: str) -> str:
    """Return such as "2 × NVIDIA H200" (device "cuda") or "1 process on x86_64 CPU"."""
    if device == "cuda":
        return f"{processes} × {torch.cuda.get_device_name()}"
    return f"{processes} process{'es' if processes > 1 else ''} on {platform.machine()} CPU"


def compose_card(facts: ModelFacts, repo_id: str, licence: str | None) -> str:
    """Return the card to push: rendered anew, or the user's own text with the metadata that it lacks.

    Raises:
        PublishError: the licence asked for, or named in the user's own card, allows more than the data do; or that
            card is damaged.
    """
    path = facts.folder / "README.md"
    own = load_card(path) if path.is_file() else None
    if own is None or MARK in own.content or any(stub in own.content for stub in STUBS):
        chosen = choose_licence(facts.datasets, licence or facts.licence, facts.part_licences)
        return render_card(facts, repo_id, chosen)
    chosen = choose_licence(facts.datasets, licence or own.data.get("license"), facts.part_licences)
    for name, value in build_metadata(facts, repo_id, chosen).to_dict().items():
        if own.data.get(name) is None or name == "license":
            own.data[name] = value
    try:
        return str(own)
    except Exception as error:  # of the YAML that its owner wrote
        reason = " ".join(str(error).split())[:200]
        raise PublishError(f"{path}: its metadata cannot be written again ({reason}): mend them") from error


def render_card(facts: ModelFacts, repo_id: str, licence: str) -> str:
    """Return YAML metadata and Markdown."""
    from descant.publish.code import collect_code

    _require_facts(facts)
    template, _, _ = describe_kind(facts)
    text = files("descant.publish").joinpath(template).read_text(encoding="utf-8")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["cell"] = lambda value: str(public_name(value)).replace("|", "\\|").replace("\n", " ")
    body = environment.from_string(text).render(
        facts=facts, repo_id=repo_id, licence=licence, mark=MARK, non_commercial=is_non_commercial(licence),
        base_model=facts.base_model and public_name(facts.base_model), decision_types=read_types(facts.folder),
        code_files=len(collect_code(facts)),
    )  # fmt: skip
    return f"---\n{build_metadata(facts, repo_id, licence).to_yaml()}\n---\n{body}\n"


def read_types(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `decision.json` says of each type of typed questions; empty where nothing was fitted."""
    path = folder / "decision.json"
    value = read_json(path) if path.is_file() else {}
    types = value.get("question_types") if isinstance(value, dict) else None
    if types is not None and not (isinstance(types, dict) and all(isinstance(one, dict) for one in types.values())):
        raise PublishError(f"{path}: its question_types are no objects by name: fit it again")
    return types or {}


def _require_facts(facts: ModelFacts) -> None:
    """Raise PublishError where a configuration lacks what this kind of card states."""
    if facts.processor_class in OTHER_KINDS:
        if facts.config.get("label_tree") is None:
            raise PublishError(f"{facts.folder / 'config.json'} has no label_tree: save the model again")
    elif facts.sampling_rate is None or facts.window_s is None:
        raise PublishError(
            f"{facts.folder / 'processor_config.json'}: its feature_extractor has no sampling_rate or no window_s: "
            "save the processor again"
        )


def describe_kind(facts: ModelFacts) -> tuple[str, str, list[str]]:
    """Return the template of its card, its task on the Hub and its tags."""
    return OTHER_KINDS.get(facts.processor_class, (TEMPLATE, TASK, TAGS))


def build_metadata(facts: ModelFacts, repo_id: str, licence: str) -> ModelCardData:
    """Return what the Hub reads: licence, task, library, base model, datasets, results."""
    bases = [name for name in facts.parts or [facts.base_model] if name and is_hub_id(name)]
    base = bases if len(bases) > 1 else next(iter(bases), None)
    data = [entry["id"] for entry in facts.datasets or [] if entry.get("kind") != "model"]
    datasets = sorted(set(filter(is_hub_id, data)))
    results = list(_eval_results(facts))
    _, task, tags = describe_kind(facts)
    return ModelCardData(
        language="en", license=licence, pipeline_tag=task, base_model=base, datasets=datasets or None, tags=tags,
        library_name="peft" if facts.is_adapter and not facts.parts else "transformers",
        model_name=repo_id.split("/")[-1] if results else None, eval_results=results or None,
    )  # fmt: skip


def _eval_results(facts: ModelFacts) -> Iterator[EvalResult]:
    _, task, _ = describe_kind(facts)
    for scores in facts.scores:
        if scores.get("baseline"):  # another system's, for comparison in the text
            continue
        dataset = scores.get("dataset") or "unspecified"
        for name in scores.get("intervals", {}):
            yield EvalResult(
                task_type=task, dataset_type=dataset, dataset_name=dataset, dataset_config=scores.get("config"),
                dataset_split=scores.get("split"), dataset_args={"items": scores["n"]}, metric_type=name,
                metric_value=round(scores[name], 4), metric_name=f"{name} ({scores['protocol']} protocol)",
            )  # fmt: skip
    for split, report in facts.listening.items():
        for kind, title in (("own", "own audio"), ("other", "another clip's audio"), ("deaf", "best without audio")):
            yield EvalResult(
                task_type=TASK, dataset_type="descant/demo", dataset_name="descant demo corpus", dataset_split=split,
                dataset_args={"items": report["n"]}, metric_type="accuracy",
                metric_value=round(report[kind]["value"], 2), metric_name=f"exact answers in percent, {title}",
            )  # fmt: skip


def write_eval_results(facts: ModelFacts) -> dict[str, bytes]:
    """Return the files by their paths in the repository, one for each dataset of the Hub that the model was scored on.

    Other systems' scores, which stand beside the model's in `scores.json`, and datasets of this machine are left out.
    """
    scored = [one for one in facts.scores if not one.get("baseline") and is_hub_id(one.get("dataset") or "")]
    datasets = sorted({str(one["dataset"]) for one in scored})
    return {
        f"{EVAL_RESULTS}/descant-{dataset.replace('/', '-')}.yaml": _to_yaml(
            [entry for one in scored if one["dataset"] == dataset for entry in _result_entries(one)]
        )
        for dataset in datasets
    }


def _result_entries(scores: Mapping[str, Any]) -> Iterator[EvalResultEntry]:
    """Give an entry for each score with an interval; a task is a configuration, a split and a measure."""
    for name, (low, high) in scores.get("intervals", {}).items():
        task = "-".join(str(part) for part in (scores.get("config"), scores.get("split"), name) if part)
        yield EvalResultEntry(
            dataset_id=str(scores["dataset"]), task_id=task, value=round(scores[name], 4),
            notes=f"{scores['protocol']} protocol, {scores['n']:,} items, 95 % interval {low:.4f} to {high:.4f}",
        )  # fmt: skip


def _to_yaml(entries: list[EvalResultEntry]) -> bytes:
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode()


def _licence_so_far(facts: ModelFacts) -> str:
    """Return the licence, "unknown" where it is still open at the end of training: pushing asks for it."""
    try:
        return choose_licence(facts.datasets, facts.licence, facts.part_licences)
    except PublishError:
        if facts.licence:
            raise
        return "unknown"


SAME = ("dataset", "config", "split", "protocol")
LOCK_FILE = ".scores.lock"


def update_card(folder: Path, result: dict[str, Any]) -> None:
    """Put a result in the place of an earlier one on the same data, and write the card anew.

    A card that its owner has made their own is left alone, and so are results that no card should state: on training
    clips, on leaked clips, on a part of the split. Raises OSError where the folder is not to be written into, and
    ValueError where its scores.json is damaged.
    """
    if result["leak"]["clips"] or result["max_clips"] or result["split"] == "train":
        log.warning("%s: these results measure memory or a part of the split; its card does not state them", folder)
        return
    with hold_lock(folder / LOCK_FILE):  # two evaluations that end together both stay
        keep_result(folder / SCORES_FILE, result)
        card = folder / "README.md"
        if card.is_file() and MARK.encode() not in card.read_bytes():
            log.warning("%s is your own text and stays as it is; the results stand in scores.json", card)
            return
        try:
            write_card(folder)
        except PublishError as error:
            log.warning("the model card was not updated: %s", error)


def keep_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result into a scores.json; a pushed one names no path of this machine."""
    earlier = read_list(path, dict[str, Any])
    stated = {name: value for name, value in result.items() if name != "max_clips"}
    stated |= {name: public_name(result[name]) for name in ("model", "dataset")}
    kept = [one for one in earlier if any(one.get(name) != stated[name] for name in SAME)]
    write_whole(path, json.dumps([*kept, stated], indent=2) + "\n")

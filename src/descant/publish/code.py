"""The files of a model's repository: weights, processor, records, and the code that loads them anywhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import descant.models
from descant.hub_client import SHIPPED, PublishError
from descant.publish.facts import DATA_FILE, FACTS_FILE, LISTENING_FILE, SCORES_FILE, ModelFacts, read_json
from descant.publish.licence import public_name

# Top-level files only. Pickles (training_args.bin, optimizer.pt) and a run's checkpoints stay at home.
PUBLISHED = (
    "config.json", "decision.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "adapter_config.json", "processor_config.json", "preprocessor_config.json", "tokenizer*.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.model", "chat_template.jinja",
    DATA_FILE, "training_clips.txt.gz", FACTS_FILE, SCORES_FILE, LISTENING_FILE, "training_log.jsonl", "loss.png",
)  # fmt: skip
REMOTE_CODE = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")

Content = Path | bytes


def collect_files(facts: ModelFacts, card: str, repo_id: str) -> dict[str, Content]:
    """Everything that goes into the repository, by its path there.

    Raises:
        PublishError: code that the configuration names is nowhere to be found, or an adapter's base or a model's part
            is a local folder.
    """
    for part in facts.parts:
        if part not in SHIPPED and Path(part).exists():
            raise PublishError(
                f"the model is joined from {part}, a folder of this machine: publish that first and write its id in "
                "its place into config.json, for whoever loads the model needs it"
            )
    files: dict[str, Content] = {}
    for pattern in PUBLISHED:
        files.update({path.name: path for path in sorted(facts.folder.glob(pattern)) if path.is_file()})
    if facts.datasets:
        files[DATA_FILE] = _training_data(facts)
    files.update(collect_code(facts))
    if facts.is_adapter:
        files["adapter_config.json"] = _adapter_config(facts, repo_id)
    return {**files, "README.md": card.encode()}


def collect_code(facts: ModelFacts) -> dict[str, Path]:
    """The Python files that `auto_map` and `custom_pipelines` name, and those that they import beside them.

    The folder's own copy goes before descant's: it was written together with the weights.
    """
    wanted = sorted({name for file in REMOTE_CODE for name in _named_modules(read_json(facts.folder / file))})
    found: dict[str, Path] = {}
    while wanted:
        module = wanted.pop()
        if f"{module}.py" not in found:
            path = found[f"{module}.py"] = _find_module(facts, module)
            wanted += re.findall(r"^\s*from \.(\w+) import", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found


def _named_modules(value: Any) -> Iterator[str]:
    """Module names in the `auto_map`s and `custom_pipelines` of a configuration, however deep they lie."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "auto_map":
                # "repo--module.Class" names code of another repository: that repository carries it.
                references = [r for r in _strings(inner) if "--" not in r]
                yield from (reference.split(".")[0] for reference in references)
            elif key == "custom_pipelines":
                yield from (one["impl"].split(".")[0] for one in inner.values())
            else:
                yield from _named_modules(inner)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _find_module(facts: ModelFacts, module: str) -> Path:
    beside = facts.folder / f"{module}.py"
    if beside.is_file():
        return beside
    for path in sorted(Path(descant.models.__path__[0]).glob(f"*/{module}.py")):
        return path
    raise PublishError(f"{facts.folder} names the code {module}.py, which is neither there nor in descant")


def _training_data(facts: ModelFacts) -> bytes:
    """The record of the data without folders of this machine, which earlier versions wrote down."""
    entries = [entry | {"id": public_name(entry["id"])} for entry in facts.datasets]
    return (json.dumps(entries, indent=2) + "\n").encode()


def _adapter_config(facts: ModelFacts, repo_id: str) -> bytes:
    if facts.parts:  # the repository itself says what the adapter is loaded onto
        config = read_json(facts.folder / "adapter_config.json") | {"base_model_name_or_path": repo_id}
        return json.dumps(config, indent=2, sort_keys=True).encode()
    if facts.base_model is None or Path(facts.base_model).exists():
        raise PublishError(
            f"the adapter's base model is {facts.base_model or 'not named'}: publish that first and give its id "
            "with --base_model, for whoever loads the adapter needs it"
        )
    config = read_json(facts.folder / "adapter_config.json")
    return json.dumps({**config, "base_model_name_or_path": facts.base_model}, indent=2, sort_keys=True).encode()

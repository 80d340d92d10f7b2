"""The files of a model's repository: weights, processor, records, and the code that loads them anywhere."""

import json
import re
from collections.abc import Iterator
from os.path import exists
from pathlib import Path
from typing import Any

import descant.models
from descant.files import require_inside
from descant.hub_client import SHIPPED, PublishError
from descant.publish.facts import (
    CLIPS_FILE,
    DATA_FILE,
    FACTS_FILE,
    LISTENING_FILE,
    RUN_FILE,
    SCORES_FILE,
    Adapter,
    ModelFacts,
    read_object,
)
from descant.publish.licence import public_name

# Top-level files only. Pickles (training_args.bin, optimizer.pt) and a run's checkpoints stay at home.
PUBLISHED = (
    "config.json", "decision.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "adapter_config.json", "processor_config.json", "preprocessor_config.json", "tokenizer*.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.model", "chat_template.jinja",
    DATA_FILE, CLIPS_FILE, FACTS_FILE, SCORES_FILE, LISTENING_FILE, "training_log.jsonl", "loss.png",
)  # fmt: skip
REMOTE_CODE = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")

# "module.Class", as `auto_map` and `custom_pipelines` name code.
REFERENCE = re.compile(r"([^\W\d]\w*)\.[^\W\d]\w*")

Content = Path | bytes


def collect_files(facts: ModelFacts, card: str, repo_id: str) -> dict[str, Content]:
    """Return everything that goes into the repository, by its path there: regular files of the folder, and code.

    Raises:
        PublishError: a file is a link out of the folder; code that the configuration names is nowhere to be found; or
            an adapter's base or a model's part is a local folder.
    """
    for part in facts.parts:
        if part not in SHIPPED and exists(part):
            raise PublishError(
                f"the model is joined from {part}, a folder of this machine: publish that first and write its id in "
                "its place into config.json, for whoever loads the model needs it"
            )
    files: dict[str, Content] = {path.name: path for path in list_files(facts.folder)}
    if facts.datasets:
        files[DATA_FILE] = _training_data(facts)
    files.update(collect_code(facts))
    if facts.is_adapter:
        files["adapter_config.json"] = _adapter_config(facts, repo_id)
    return {**files, "README.md": card.encode()}


def list_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that are published, but for code and card.

    Raises:
        PublishError: one of them, or one whose content the card states, is a link out of the folder or no file.
    """
    found = sorted({path for pattern in PUBLISHED for path in folder.glob(pattern) if not path.is_dir()})
    stated = [path for path in (folder / "README.md", folder / RUN_FILE) if path.is_symlink() or path.exists()]
    for path in [*found, *stated]:
        _require_own(path, folder)
    return found


def _require_own(path: Path, folder: Path) -> None:
    try:
        require_inside(path, folder)
    except ValueError as error:
        raise PublishError(f"{error}; nothing was published") from error
    if not path.name.isprintable():
        raise PublishError(f"{folder} holds a file named {path.name!r}, which no repository can hold: rename it")


def collect_code(facts: ModelFacts) -> dict[str, Path]:
    """Return the Python files that `auto_map` and `custom_pipelines` name, and those that they import beside them.

    The folder's own copy goes before descant's: it was written together with the weights.
    """
    wanted = sorted({name for file in REMOTE_CODE for name in _named_modules(facts.folder / file)})
    found: dict[str, Path] = {}
    while wanted:
        module = wanted.pop()
        if f"{module}.py" not in found:
            path = found[f"{module}.py"] = _find_module(facts, module)
            wanted += re.findall(r"^\s*from \.([^\W\d]\w*) import", _read_code(path), flags=re.MULTILINE)
    return found


def _read_code(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PublishError(f"{path} is no Python code in UTF-8: write it again or remove it") from error


def _named_modules(path: Path) -> Iterator[str]:
    """Give the modules in the `auto_map`s and `custom_pipelines` of a configuration, however deep they lie.

    A name out of a file becomes the name of a file, so nothing but an identifier is taken.
    """
    for reference in _named_code(read_object(path, dict[str, Any])):
        if "--" in reference:  # "repo--module.Class": another repository carries it
            continue
        named = REFERENCE.fullmatch(reference)
        if named is None:
            raise PublishError(f"{path} names the code {reference[:80]!r}, which is not of the form module.Class")
        yield named[1]


def _named_code(config: dict[str, Any]) -> Iterator[str]:
    below: list[Any] = [config]
    while below:
        for key, inner in below.pop().items():
            if key in ("auto_map", "custom_pipelines"):
                yield from _strings(inner, only="impl" if key == "custom_pipelines" else None)
            elif isinstance(inner, dict):
                below.append(inner)


def _strings(value: Any, only: str | None = None) -> Iterator[str]:
    """Give the texts in a value at any depth; `only`: those that stand under this key."""
    below: list[tuple[Any, Any]] = [(only, value)] if not isinstance(value, str) else [(None, value)]
    while below:
        key, one = below.pop()
        if isinstance(one, str) and (only is None or key == only):
            yield one
        elif isinstance(one, dict):
            below += one.items()
        elif isinstance(one, list):
            below += [(key, inner) for inner in one]


def _find_module(facts: ModelFacts, module: str) -> Path:
    beside = facts.folder / f"{module}.py"
    if beside.is_symlink() or beside.exists():
        _require_own(beside, facts.folder)
        return beside
    for path in sorted(Path(descant.models.__path__[0]).glob(f"*/{module}.py")):
        return path
    raise PublishError(f"{facts.folder} names the code {module}.py, which is neither there nor in descant")


def _training_data(facts: ModelFacts) -> bytes:
    """Return the record of the data without folders of this machine, which earlier versions wrote down."""
    entries = [entry | {"id": public_name(entry["id"])} for entry in facts.datasets or []]
    return (json.dumps(entries, indent=2) + "\n").encode()


def _adapter_config(facts: ModelFacts, repo_id: str) -> bytes:
    base = repo_id if facts.parts else facts.base_model  # the repository itself says what the parts are
    if base is None or (not facts.parts and exists(base)):
        raise PublishError(
            f"{facts.folder / 'adapter_config.json'}: the adapter's base model is {base or 'not named'}: publish that "
            "first and give its id with --base_model, for whoever loads the adapter needs it"
        )
    config = read_object(facts.folder / "adapter_config.json", Adapter) | {"base_model_name_or_path": base}
    return json.dumps(config, indent=2, sort_keys=True).encode()

"""Loads a model for answering or classifying, from a folder or the Hub, or says why it cannot."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descant.files import sha256_of
from descant.models import box, musicnn
from descant.models.registration import MODELS
from descant.program import name_error, say, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

PRECISIONS = ("fp32", "bf16", "int8")  # in which a Listener may answer; known here without the seconds of torch
ANSWERING, CLASSIFYING = "AutoModelForMultimodalLM", "AutoModelForSequenceClassification"
REFUSALS = {
    ANSWERING: "cannot answer about music; descant asks",
    CLASSIFYING: "gives music no labels; descant classifies with",
}
# What loading reads; code is not needed where descant is installed.
FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "training_clips.txt.gz")
# What decides a model's answers: in `decision.json` typed ones, and what long ones may claim.
WEIGHT_FILES = (
    "*.safetensors", "config.json", "adapter_config.json", "decision.json", "generation_config.json",
    "processor_config.json", "preprocessor_config.json", "tokenizer*.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template.*",
)  # fmt: skip
# Where a folder names other models that it is loaded onto.
BASES = {"config.json": ("audio_model_id", "text_model_id"), "adapter_config.json": ("base_model_name_or_path",)}
ADAPTER = "adapter_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
SETTINGS = ("processor_config.json", "preprocessor_config.json", "generation_config.json")
LARGEST_SIZE = 10**8
LONGEST_REASON = 300  # characters of what a library says


class ModelFolderError(ValueError):
    """The given model cannot do what is asked of it; the message says why and what to give."""


def split_model(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Divide `[MODEL] AUDIO …`: without a model, it is the one in the box, which is said on stderr.

    The first argument is a model where it is a folder with a model's settings, or a name that is nothing here and no
    sound file's; raises ModelFolderError where nothing else was given.
    """
    first, *others = arguments
    if not _names_model(first):
        return choose_model(None), list(arguments)
    if not others:
        raise ModelFolderError(f"{first} is a model: give sound files too")
    return first, others


def _names_model(argument: str) -> bool:
    path = Path(argument)
    if path.is_dir():
        return _holds_model(path)
    if path.exists():
        return False
    from descant.data.sources import names_sound

    return not names_sound(argument)


def _holds_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("config.json", ADAPTER))


def choose_model(name: str | None) -> str:
    """Return the name of a model, that of the one in the box for None, which is said on stderr."""
    if name is None:
        say("descant: no model is named, so the model in the box answers")
    return name or box.NAME


def find_model(source: str | Path, auto: str = ANSWERING) -> Path:
    """Return the folder itself, or the local copy of a model on the Hub; raise ModelFolderError.

    source: "box" is the model that comes with descant, where no folder here with a model in it has this name.
    auto: the Auto class that is to load it. Needs no torch, so that a wrong name is named at once.
    """
    if str(source) == box.NAME and not _holds_model(Path(source)):
        folder = box.FOLDER
    else:
        folder = Path(source) if Path(source).exists() else _download(str(source))
    try:
        _require_model(folder, auto)
    except ModelFolderError as error:
        raise ModelFolderError(f"{source}: {error}") from error
    return folder


def load_model(folder: Path, auto: str = ANSWERING) -> tuple["PreTrainedModel", "ProcessorMixin"]:
    """Load the model, in float32 and eval mode, and its processor; an adapter is merged into the model that it adapts.

    Args:
        folder: what `find_model` returned.
        auto: the Auto class that loads it.

    Raises:
        ModelFolderError: the folder lacks a part or holds a damaged one.
    """
    import torch
    import transformers

    import descant  # noqa: F401  (makes the Auto classes know the model)
    from descant.hub_client import NetworkError, load_patiently

    def load() -> tuple["ProcessorMixin", tuple["PreTrainedModel", dict[str, Any]]]:
        processor = transformers.AutoProcessor.from_pretrained(_processor_folder(folder))
        loader = getattr(transformers, auto)
        return processor, loader.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)

    try:
        processor, (model, left_out) = load_patiently(load, folder, *_named_bases(folder))
    except NetworkError as error:
        raise ModelFolderError(f"{folder} is loaded onto another model: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ModelFolderError(f"{folder}: cannot be loaded: {_explain(folder, error)}") from error
    if left_out["missing_keys"]:  # transformers fills them with random numbers
        raise ModelFolderError(f"{folder}: weights are missing, {sorted(left_out['missing_keys'])[0]} among them")
    if (folder / ADAPTER).is_file():
        model = model.merge_adapter()
    broken = _find_broken_weight(model)
    if broken:
        raise ModelFolderError(f"{folder}: the weights {broken} hold NaN or infinite numbers; get the model again")
    return model.eval(), processor


def _processor_folder(folder: Path) -> Path | str:
    """Return where the processor lies: an adapter that was saved without one takes that of its base."""
    if (folder / "processor_config.json").is_file() or not (folder / ADAPTER).is_file():
        return folder
    return _named_bases(folder)[-1]


def _find_broken_weight(model: "PreTrainedModel") -> str | None:
    import torch

    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and weight.numel() and not all(map(torch.isfinite, torch.aminmax(weight))):
            return name
    return None


def _download(source: str) -> Path:
    from descant.hub_client import MissingError, NetworkError, fetch_folder

    try:
        return fetch_folder(source, FILES)
    except MissingError as error:
        raise ModelFolderError(f"{source}: no such folder here; {error}") from error
    except NetworkError as error:
        reason = str(error).removeprefix(f"{source}: ")
        raise ModelFolderError(f"{source}: no such folder here; on the Hub: {reason}") from error


def _require_model(folder: Path, auto: str) -> None:
    """Raise ModelFolderError where a folder does not hold a model for `auto`, or one in files that are not read."""
    if not folder.is_dir():
        raise ModelFolderError("is a file; a checkpoint of the reference becomes a model folder by `descant convert`")
    _require_regular_files(folder)
    for name in SETTINGS:
        if (folder / name).is_file():
            read_config(folder / name)
    if (folder / ADAPTER).is_file():
        _require_adapter(folder, auto)
        return
    if not (folder / "config.json").is_file():
        raise ModelFolderError(
            "is not a model folder: it has no config.json; give one that a recipe or `descant convert` wrote"
        )
    _require_kind(read_config(folder / "config.json"), auto)
    _require_weights(folder, "model")


def _require_weights(folder: Path, name: str) -> None:
    found = list(folder.glob("*.safetensors"))
    for path in found:
        try:
            path.open("rb").close()  # safetensors says of every reason that there is no such file
        except OSError as error:
            raise ModelFolderError(f"cannot be loaded: {path.name}: {error.strerror}") from error
    if found:
        return
    reason = f"it has no weights ({name}.safetensors)"
    for path in sorted(folder.glob("*.bin")):
        reason = f"its weights are a pickle ({path.name}), which may run code: save them as safetensors"
    raise ModelFolderError(f"cannot be loaded: {reason}")


def _require_adapter(folder: Path, auto: str) -> None:
    _require_weights(folder, "adapter_model")
    if (folder / "config.json").is_file():  # it names the parts that the adapter is loaded onto
        _require_kind(read_config(folder / "config.json"), auto)
        return
    base = read_config(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelFolderError(f"is an adapter, and its {ADAPTER} does not name the model that it adapts")
    try:
        path = Path(base) if Path(base).exists() else _download(base)
        if (path / ADAPTER).is_file():
            raise ModelFolderError("is an adapter itself: merge that one first")
        _require_model(path, auto)
    except ModelFolderError as error:
        raise ModelFolderError(f"is an adapter of {base}: {error}") from error


def _require_kind(config: Mapping[str, Any], auto: str) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelFolderError("is not a model folder: its config.json names no model type")
    able = [name for name, classes in MODELS.items() if auto in classes]
    if kind not in able:
        raise ModelFolderError(f"is a {kind} model, which {REFUSALS[auto]} {', '.join(able)} models")


def _require_regular_files(folder: Path) -> None:
    """Refuse pipes and devices under the names of files that are read: reading them might never end."""
    for path in (path for pattern in FILES for path in folder.glob(pattern)):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ModelFolderError(f"{path.name} is no regular file")


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object of settings, in which no size is absurd; raise ModelFolderError, which names the file."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        absurd = _find_absurd(config)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path.name} cannot be read as JSON ({_reason(error)})") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{path.name} holds {type(config).__name__} in place of a JSON object")
    if absurd:
        raise ModelFolderError(f"{path.name}: {absurd} is no size")
    return config


def _find_absurd(value: Any, name: str = "") -> str | None:
    """Return `name = number` for a whole number that nothing in a model counts, and that would fill the memory."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else ((name, one) for one in value)
        return next(filter(None, (_find_absurd(one, str(key)) for key, one in parts)), None)
    return f"{name} = {value}" if isinstance(value, int) and abs(value) > LARGEST_SIZE else None


def _explain(folder: Path, error: Exception) -> str:
    """Return why a folder cannot be loaded: the file that is damaged or missing, or what the library says."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as fault:
            return f"{path.name} cannot be read as JSON ({_reason(fault)})"
    if not any((folder / name).is_file() for name in TOKENIZERS) and not (folder / ADAPTER).is_file():
        return f"it has no tokenizer ({TOKENIZERS[0]})"
    return shorten(_reason(error), LONGEST_REASON)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return name_error(error)


def fingerprint_model(folder: Path) -> str:
    """Return 16 hex digits of all that decides what a model answers, of the folders that it is loaded onto too."""
    prints = [fingerprint_files(folder, WEIGHT_FILES), *map(fingerprint_model, _local_bases(folder))]
    return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()[:16]


def _named_bases(folder: Path) -> list[str]:
    """Return the folders and Hub ids that a model's configurations name as its parts or its base."""
    named = []
    for name, keys in BASES.items():
        config = read_config(folder / name) if (folder / name).is_file() else {}
        named += [config[key] for key in keys if isinstance(config.get(key), str) and config[key]]
    return named


def _local_bases(folder: Path) -> list[Path]:
    """Return those of a model's bases that are folders here, the model itself left out.

    The encoder that comes with descant is the one in the package, also where a folder here has its name.
    """
    from descant.hub_client import SHIPPED

    named = [musicnn.PRETRAINED if name in SHIPPED else Path(name) for name in _named_bases(folder)]
    return [path for path in named if path.is_dir() and path.resolve() != folder.resolve()]


def fingerprint_files(folder: Path, patterns: Iterable[str]) -> str:
    """Return 16 hex digits of the names and contents of the files in a folder that match one of the patterns."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]

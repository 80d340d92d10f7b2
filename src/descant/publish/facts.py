"""What a model folder says of itself: its small files, read within bounds and checked, and the facts of its card.

Also its records of training: datasets and clips, those of the model that it began from among them.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os.path import exists
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Required, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from safetensors import SafetensorError, safe_open

from descant.data.features import FeatureStore
from descant.data.splits import ClipHashes
from descant.files import write_whole
from descant.hub_client import NetworkError, PublishError, find_file
from descant.publish.licence import HUB_ID, describe_part, public_name

DATA_FILE = "training_data.json"
CLIPS_FILE = "training_clips.txt.gz"
FACTS_FILE = "training_facts.json"
RUN_FILE = "run.json"
SCORES_FILE = "scores.json"
LISTENING_FILE = "listening.json"

LONGEST_RECORD = 100_000_000  # bytes of one JSON file
LONGEST_PACKED, LONGEST_CLIPS = 150_000_000, 300_000_000  # bytes of the list of clips, 1.7 million, packed and not
LONGEST_LINE = 10_000  # bytes of one clip's line
MENDED = "write the file again or remove it"

WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null", list: "a list",
    dict: "an object",
}  # fmt: skip


class RecordError(PublishError):
    """A file of a model folder that has another shape than it should; the message names it and the place in it."""


class TrainedOn(TypedDict, total=False):
    """One entry of `training_data.json`: a dataset, or a model whose own data are not known."""

    id: Required[str]
    kind: str | None
    revision: str | None
    configs: list[str] | None
    split: str | None
    licence: str | list[str] | None
    clips: int | str | None


class Run(TypedDict, total=False):
    """`run.json`: the recipe, its stages (configuration, epochs), and each setting by its name."""

    recipe: str | None
    stages: list[tuple[str, float]] | None
    init_from: str | None


class TrainingFacts(TypedDict, total=False):
    """`training_facts.json`: what a card states of the training."""

    hardware: str | None
    hours: float | None
    base_model: str | None
    licence: str | None
    versions: dict[str, str] | None
    run: Run | None


class Scores(TypedDict, total=False):
    """One entry of `scores.json`; each score that `intervals` names is a number beside it.

    genre_calibration_error: of a subgenre classifier's likeliest genre.
    """

    protocol: Required[str]
    n: Required[int]
    dataset: str | None
    config: str | None
    split: str | None
    intervals: dict[str, tuple[float, float]]
    genre_calibration_error: float | None


class Accuracy(TypedDict):
    """An accuracy in percent with its 95 % interval."""

    value: float
    low: float
    high: float


class Claims(Accuracy, total=False):
    """How many percent of `n` claims of long answers contradict nothing known.

    per_answer: claims of an answer. grammatical: percent of the answers. everything: the same of answers from which
    nothing was left out.
    """

    n: Required[int]
    per_answer: float
    grammatical: float
    everything: dict[str, float]


class Listening(TypedDict, total=False):
    """One split of `listening.json`: exact answers with the clip's own audio, another clip's, and without any."""

    n: Required[int]
    own: Required[Accuracy]
    other: Required[Accuracy]
    deaf: Required[Accuracy]
    claims: Claims


class Extractor(TypedDict, total=False):
    """A processor's `feature_extractor`."""

    sampling_rate: int | None
    window_s: float | None


class Processor(TypedDict, total=False):
    """`processor_config.json`."""

    processor_class: Required[str]
    feature_extractor: Extractor | None


class PipelineCode(TypedDict, total=False):
    """The code of a custom pipeline, "module.Class"."""

    impl: Required[str]


class Config(TypedDict, total=False):
    """What a card and a push read of `config.json`."""

    audio_model_id: str | None
    text_model_id: str | None
    captioner: str | None
    custom_pipelines: dict[str, PipelineCode] | None
    fusion: str | None
    label_tree: list[tuple[str, list[str]]] | None
    questions: list[str | None] | None


class Adapter(TypedDict, total=False):
    """What a push reads of `adapter_config.json`."""

    base_model_name_or_path: str | None


CONFIGS = (("adapter_", Adapter), ("", Config))
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
    """Read the processor's settings, weights' headers and the records that training and scoring left in `folder`.

    Args:
        base_model: the Hub id to name as the base, where the folder names none or a local path.

    Raises:
        PublishError: no weights or no processor in it, damaged weights, or a record of another shape.
    """
    folder = Path(folder)
    adapter, config = (read_object(folder / f"{name}config.json", shape) for name, shape in CONFIGS)
    told = read_object(folder / FACTS_FILE, TrainingFacts)
    run = told.get("run") or read_object(folder / RUN_FILE, Run)
    parts = tuple(config[name] for name in PARTS if config.get(name))
    named = (base_model, adapter.get("base_model_name_or_path"), told.get("base_model"), run.get("init_from"))
    return ModelFacts(
        folder=folder,
        is_adapter=bool(adapter),
        pipeline=max(config.get("custom_pipelines") or {}, default=None),  # music-question-answering of two
        parameters=count_parameters(folder),
        base_model=next((name for name in named if name), None),
        datasets=read_list(folder / DATA_FILE, TrainedOn) or None,
        licence=told.get("licence"),
        hardware=told.get("hardware"),
        hours=told.get("hours"),
        versions=told.get("versions") or {},
        scores=read_scores(folder / SCORES_FILE),
        listening=read_object(folder / LISTENING_FILE, dict[str, Listening]),
        config=config,
        parts=parts,
        part_licences=[describe_part(name) for name in parts],
        **_read_processor(folder),
        **_split_run(run),
    )


def _read_processor(folder: Path) -> dict[str, Any]:
    processor = read_object(folder / "processor_config.json", Processor)
    if not processor:
        raise PublishError(f"{folder} holds no processor_config.json: save the processor beside the model")
    extractor = processor.get("feature_extractor") or {}
    return {
        "processor_class": processor["processor_class"],
        "sampling_rate": extractor.get("sampling_rate"),
        "window_s": extractor.get("window_s"),
    }


def _split_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe and its stages apart from the settings that were given."""
    apart = ("recipe", "stages")
    settings = {name: value for name, value in run.items() if name not in apart and value is not None}
    return {"recipe": run.get("recipe"), "stages": run.get("stages") or [], "settings": settings}


def count_parameters(folder: Path) -> int:
    """Return how many numbers the folder's safetensors files hold; tied weights count once.

    Raises:
        PublishError: there are none, or one is damaged.
    """
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files:
        raise PublishError(
            f"{folder} holds no model.safetensors and no adapter_model.safetensors: "
            "give the folder that save_pretrained or a recipe wrote"
        )
    return sum(map(_count_numbers, files))


def _count_numbers(file: Path) -> int:
    try:
        with safe_open(file, framework="pt") as weights:
            return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise PublishError(f"{file} holds no whole weights ({error}): save the model again") from error


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_object(path: Path, shape: Any) -> dict[str, Any]:
    """Return a JSON file's object, checked against a `TypedDict`; empty where there is no such file.

    Raises:
        RecordError: no JSON, or of another shape. What the shape does not name is not looked at.
    """
    if not path.is_file():
        return {}
    value = read_json(path)
    check(value, shape, path)
    return value


def read_list(path: Path, shape: Any) -> list[Any]:
    """Return a JSON file's list of objects, or its one object as a list; empty where there is no such file."""
    if not path.is_file():
        return []
    value = read_json(path)
    value = ([value] if value else []) if isinstance(value, dict) else value
    check(value, list[shape], path)
    return value


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a `scores.json`; raise RecordError where a score is missing or no number."""
    entries = read_list(path, Scores)
    for index, entry in enumerate(entries):
        for name in entry.get("intervals", {}):
            check(entry.get(name), float, path, f"[{index}]{_step(name)}")
    return entries


def read_json(path: Path) -> Any:
    """Return what a JSON file of at most 100 MB holds; raise RecordError, which names the file."""
    with path.open("rb") as file:
        data = file.read(LONGEST_RECORD + 1)
    if len(data) > LONGEST_RECORD:
        raise RecordError(f"{path} is longer than any record, {LONGEST_RECORD // 1_000_000} MB: {MENDED}")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is no text in UTF-8: {MENDED}") from error
    except RecursionError as error:
        raise RecordError(f"{path} is nested too deeply to be a record: {MENDED}") from error
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error}): {MENDED}") from error


def read_clips(path: Path) -> dict[str, str]:
    """Return clip id → its hashes out of a `training_clips.txt.gz`, one `id TAB hashes` a line.

    It is unpacked line by line, within bounds, so that a small file cannot fill the memory. Raises RecordError.
    """
    if path.stat().st_size > LONGEST_PACKED:
        raise RecordError(f"{path} is longer than any list of clips, {LONGEST_PACKED // 1_000_000} MB")
    try:
        with gzip.open(path) as file:
            return dict(_clip_lines(file, path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecordError(f"{path} is cut short or damaged ({error}): get the whole file again") from error


def _clip_lines(file: gzip.GzipFile, path: Path) -> Iterator[tuple[str, str]]:
    number = size = 0
    while line := file.readline(LONGEST_LINE + 1):
        number, size = number + 1, size + len(line)
        clip_id, tab, hashes = line.decode("utf-8", "surrogateescape").rstrip("\n").rpartition("\t")
        if len(line) > LONGEST_LINE or size > LONGEST_CLIPS or (line.strip() and not (tab and clip_id)):
            raise RecordError(f"{path}: line {number} is no clip with its hashes: get the file of the model again")
        if tab:
            yield clip_id, hashes


def check(value: Any, shape: Any, path: Path, where: str = "") -> None:
    """Raise RecordError where a JSON value is not of a type.

    Args:
        shape: str, int, float (any finite number), None, a union, list[…], dict[str, …], tuple[…] (a list of that
            length), a TypedDict, or Any.
        path: the file that the message names; `where`: the place in it.
    """
    origin, inner = get_origin(shape), get_args(shape)
    if origin in (Union, UnionType):
        return _check_union(value, inner, path, where)
    kind = dict if is_typeddict(shape) else list if origin is tuple else origin or shape
    if kind is Any:
        return None
    if not _is_a(value, kind) or (origin is tuple and len(value) != len(inner)):
        wanted = f"a list of {len(inner)}" if origin is tuple else WORDS[kind]
        raise RecordError(f"{path}: {where or 'it'} is {_shown(value)}, not {wanted}: {MENDED}")
    if is_typeddict(shape):
        return _check_fields(value, shape, path, where)
    for index, item in enumerate(value) if kind is list else ():
        check(item, inner[index if origin is tuple else 0], path, f"{where}[{index}]")
    for key, item in value.items() if kind is dict and inner else ():
        check(item, inner[1], path, where + _step(key))


def _check_union(value: Any, kinds: tuple[Any, ...], path: Path, where: str) -> None:
    if value is None and NoneType in kinds:
        return
    wanted = [kind for kind in kinds if kind is not NoneType]
    fitting = [kind for kind in wanted if _is_a(value, get_origin(kind) or (dict if is_typeddict(kind) else kind))]
    check(value, (fitting or wanted)[0], path, where)


def _check_fields(value: Mapping[str, Any], shape: Any, path: Path, where: str) -> None:
    for name in sorted(shape.__required_keys__ - value.keys()):
        raise RecordError(f"{path}: {where or 'it'} has no {name}: {MENDED}")
    for name, kind in get_type_hints(shape).items():
        if name in value:
            check(value[name], kind, path, where + _step(name))


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: Any) -> str:
    return WORDS[type(value)] if value is None or isinstance(value, dict | list) else repr(value)[:40]


def _step(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{key[:40]!r}]"


# Records of training


def write_records(
    folder: Path, datasets: list[dict[str, Any]], clips: Mapping[str, ClipHashes], init_from: str | None
) -> None:
    """Write `training_data.json` (id, revision, split, licence, clips) and `training_clips.txt.gz`.

    Args:
        clips: clip id → its hashes, as `hash_clips` gives them.
        init_from: folder or Hub id whose own records are carried on.
    """
    earlier_data, earlier_clips = inherit_records(init_from) if init_from else ([], {})
    known = {json.dumps(one, sort_keys=True): one for one in [*earlier_data, *datasets]}
    write_whole(folder / DATA_FILE, (json.dumps(list(known.values()), indent=2) + "\n").encode())
    lines = "".join(f"{clip_id}\t{digest}\n" for clip_id, digest in sorted({**earlier_clips, **clips}.items()))
    write_whole(folder / CLIPS_FILE, gzip.compress(lines.encode("utf-8", "surrogateescape"), mtime=0))


def read_records(source: str) -> tuple[list[dict[str, Any]], dict[str, ClipHashes]]:
    """Return the datasets and clips (id → hashes) that a model was trained on; empty where it does not say.

    Raises:
        ValueError: a model on the Hub whose records are not on this machine and cannot be fetched, or (RecordError)
            records that are damaged or of another shape.
    """
    data, clips = (_find(source, name) for name in (DATA_FILE, CLIPS_FILE))
    hashes = read_clips(clips) if clips else {}
    datasets = read_list(data, TrainedOn) if data else []
    return datasets, {clip_id: ClipHashes.parse(text) for clip_id, text in hashes.items()}


def inherit_records(source: str) -> tuple[list[dict[str, Any]], dict[str, ClipHashes]]:
    """Return the records that a model hands on to what is trained from it or with it.

    One without any hands on itself, under the licence of its card: what went into it binds what comes of it, and is
    not known. Raises ValueError as `read_records` does.
    """
    datasets, clips = read_records(source)
    unrecorded = {
        "id": public_name(source), "kind": "model", "revision": "", "configs": [], "split": "",
        "licence": describe_part(source)["licence"] or "unknown", "clips": "not recorded",
    }  # fmt: skip
    return datasets or [unrecorded], clips


def hash_clips(features: FeatureStore, clips: Iterable[str]) -> dict[str, ClipHashes]:
    """Map each clip id to the hashes of its features and of its sound file."""
    return {clip: ClipHashes(features.feature_sha256(clip), features.sha256(clip)) for clip in clips}


def describe_data(
    corpus_id: str, revision: str, licence: str, clips: Iterable[str], configs: list[str]
) -> dict[str, Any]:
    """Return one entry of `training_data.json`; a dataset in a folder is named by its last part."""
    return {
        "id": public_name(corpus_id), "revision": revision, "configs": configs, "split": "train", "licence": licence,
        "clips": len(set(clips)),
    }  # fmt: skip


def _find(source: str, name: str) -> Path | None:
    if exists(source):
        path = Path(source) / name
        return path if path.is_file() else None
    if not HUB_ID.fullmatch(source):  # a path of another machine
        return None
    try:
        return find_file(source, name)
    except NetworkError as error:
        raise ValueError(
            f"{source}: what it was trained on cannot be read, for its {name} is not on this machine and the Hub does "
            f"not give it: give a folder that holds the whole repository, or mend this: {error}"
        ) from error

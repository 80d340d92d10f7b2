"""Writes a model's graphs for other runtimes and languages, and compares what they give with the model itself."""

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from descant.answering.description import description_questions
from descant.data.audio import Window
from descant.doors.graphs import Decisions, Encoder, build_front_end
from descant.files import write_whole
from descant.models.lp_music_caps.decision_music import PlannedQuestion, fill_window
from descant.models.lp_music_caps.track_music import ABOUT_MUSIC, IS_MUSIC

NEEDED = ("onnx", "onnxscript", "onnxruntime")
SETTINGS_FILE = "descant.json"  # what a program needs to know beside the graphs
VERSION = 1  # of that file
WINDOWS_AT_ONCE = 8
POOLING = "probabilities = softmax(mean over windows of the scores / temperature)"


def require_exporter() -> None:
    """Raise ImportError in one sentence where what exports is not installed."""
    missing = next((name for name in NEEDED if importlib.util.find_spec(name) is None), None)
    if missing is None and importlib.util.find_spec("transformers.exporters") is None:
        missing = "transformers 5.24"
    if missing is not None:
        raise ImportError(f"{missing} is not installed: pip install descant[export]")


class Export:
    """The graphs of one model, by name (`front_end`, `encoder`, `decisions`), and what they say of themselves."""

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        name: str,
        questions: Mapping[str, Any] | None = None,
    ) -> None:
        """Choose what is exported.

        Args:
            model: in float32, on the CPU.
            processor: its own.
            name: under which the model is shown.
            questions: System One's, by name, which become the outputs of `decisions`; by default those of a
                description that the model was trained on, and whether there is music.

        Raises:
            ValueError: a question is none, or the model cannot decide it.
        """
        self.model, self.processor, self.name = model, processor, name
        self.extractor = processor.feature_extractor
        self.planned = plan(model, questions)
        self.graphs: dict[str, nn.Module] = {}
        if (front_end := build_front_end(self.extractor)) is not None:
            self.graphs["front_end"] = front_end
        encoder = Encoder(model)
        self.graphs["encoder"], self.gives_tags = encoder, encoder.gives_tags
        if self.planned:
            prepared = model.decision_config.prepare_questions(self.planned, processor)
            names = [one.name for one in self.planned]
            self.graphs["decisions"] = Decisions(model, names, prepared["prompts"], prepared["trees"])
        for graph in self.graphs.values():
            graph.eval()

    @torch.no_grad()
    def sample_inputs(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return inputs of each graph, two windows of noise and what becomes of them: graph → input → tensor."""
        samples = 0.1 * torch.randn(2, self.extractor.num_samples, generator=torch.Generator().manual_seed(0))
        features = torch.stack([torch.as_tensor(self.extractor.extract(one.numpy())) for one in samples])
        inputs = {"front_end": {"waveform": samples}, "encoder": {"input_features": features}}
        if "decisions" in self.graphs:
            inputs["decisions"] = read_by_decisions(self.graphs["encoder"](features))
        return {name: inputs[name] for name in self.graphs}

    def save(self, folder: Path) -> None:
        """Trace every graph with any number of windows, and write the files."""
        from transformers.exporters.base import ExportedModel
        from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

        exporter, components = OnnxExporter(), {}
        inputs = self.sample_inputs()
        for name, graph in self.graphs.items():
            config = OnnxConfig(dynamic_shapes={key: {0: torch.export.Dim("batch", min=1)} for key in inputs[name]})
            module = graph if name != "front_end" else Named(graph, "input_features")
            with quiet():
                components[name] = exporter.export(module, inputs[name], config).components["model"]
        ExportedModel(components, "onnx").save_pretrained(folder)
        settings = json.dumps(self.describe(folder), indent=2, ensure_ascii=False)
        write_whole(folder / SETTINGS_FILE, f"{settings}\n".encode())

    def describe(self, folder: Path) -> dict[str, Any]:
        """Return what a program needs to know to use the graphs that lie in a folder."""
        extractor = self.extractor
        settings: dict[str, Any] = {
            "version": VERSION,
            "model": self.name,
            "sampling_rate": extractor.sampling_rate,
            "window_s": extractor.window_s,
            "num_samples": extractor.num_samples,
            "short_windows": "repeat the samples until they fill num_samples",
            "graphs": {
                name: {"file": f"{name}.onnx", **read_signature(folder / f"{name}.onnx")} for name in self.graphs
            },
            "features": {key: value for key, value in extractor.to_dict().items() if is_plain(value)},
        }
        if self.gives_tags:
            settings["tags"] = self.model.audio_encoder.config.tag_names
        if self.planned:
            settings |= {"pooling": POOLING, "questions": {one.name: describe_question(one) for one in self.planned}}
        return settings


def read_by_decisions(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return those outputs of the encoder that the graph of decisions reads."""
    return {name: encoded[name] for name in ("audio_embeds", "audio_states") if name in encoded}


class Named(nn.Module):
    """A module whose one output has a name."""

    def __init__(self, module: nn.Module, output: str) -> None:
        super().__init__()
        self.module, self.output = module, output

    def forward(self, waveform: torch.Tensor) -> dict[str, torch.Tensor]:
        """Waveforms (batch, samples) → the module's output, by its name."""
        return {self.output: self.module(waveform)}


def plan(model: PreTrainedModel, questions: Mapping[str, Any] | None) -> list[PlannedQuestion]:
    """Return the questions that a model decides; raise ValueError for one that was asked for and cannot be decided."""
    config = model.decision_config
    if config is None:
        if questions:
            raise ValueError("the model has no decision.json, so there is no typed question to export")
        return []
    chosen = questions or description_questions(config) | {ABOUT_MUSIC: IS_MUSIC}
    planned = config.plan(chosen)
    unknown = next((one.name for one in planned if one.type is None), None)
    if questions and unknown is not None:
        raise ValueError(f"the question {unknown!r} is of no type that the model was trained on: leave it out")
    return [one for one in planned if one.type is not None]


def describe_question(planned: PlannedQuestion) -> dict[str, Any]:
    """Return a question's type, wording, options in the order of the scores, temperature and threshold."""
    question = planned.question
    shown = {} if question.type != "score" else {"levels": [str(text) for text in question.descriptions]}
    return {
        "type": question.type,
        "instructions": question.instructions,
        "options": list(question.options),
        **shown,
        "temperature": planned.temperature,
        "threshold": planned.type.threshold if planned.type is not None and planned.known else None,
    }


def read_signature(path: Path) -> dict[str, Any]:
    """Return the inputs and outputs of a graph, name → shape, in which "batch" is an axis of any size."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    named = {"inputs": graph.input, "outputs": graph.output}
    return {
        kind: {
            value.name: [axis.dim_value or "batch" for axis in value.type.tensor_type.shape.dim] for value in values
        }
        for kind, values in named.items()
    }


def is_plain(value: Any) -> bool:
    """Return whether a setting is a number, a text, or a list of numbers."""
    return isinstance(value, str | int | float) or (
        isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the notes of the exporters off the terminal; what fails still raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Runner:
    """The saved graphs of a folder in onnxruntime, on the CPU."""

    def __init__(self, folder: Path) -> None:
        """Load them; raises ImportError where onnxruntime is not installed."""
        import onnxruntime

        self.settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.sessions = {
            name: onnxruntime.InferenceSession(
                str(folder / graph["file"]), options, providers=["CPUExecutionProvider"]
            )
            for name, graph in self.settings["graphs"].items()
        }

    def run(self, graph: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return a graph's outputs, by name, for its inputs."""
        session = self.sessions[graph]
        named = {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in inputs.items()}
        outputs = session.run(None, named)
        return dict(zip((one.name for one in session.get_outputs()), outputs, strict=True))


@torch.no_grad()
def compare(export: Export, folder: Path, windows: Iterable[Window]) -> tuple[int, dict[str, float]]:
    """Compare saved graphs with the model, over windows of sound.

    Returns how many windows were compared, and the largest differences: of each graph's outputs where it is given what
    the model computed, and of "waveform to …" where each graph is given what the one before it gave.
    """
    runner, count = Runner(folder), 0
    largest: dict[str, float] = {}
    remaining = iter(windows)
    while group := [fill_window(one.samples, export.extractor) for one in islice(remaining, WINDOWS_AT_ONCE)]:
        count += len(group)
        for name, difference in compare_group(export, runner, np.stack(group)):
            largest[name] = float(np.maximum(largest.get(name, 0.0), difference))  # NaN stays, as it does not with max
    return count, largest


def compare_group(export: Export, runner: Runner, samples: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield what was compared and the largest difference, for waveforms (batch, samples)."""
    model, rate = export.model, export.extractor.sampling_rate
    features = export.processor(audio=list(samples), sampling_rate=rate, return_tensors="pt")["input_features"]
    wanted = read_by_decisions(export.graphs["encoder"](features))
    wanted["audio_embeds"] = model.get_audio_features(features)
    scores = score(export, features)
    heard: dict[str, Any] = {}
    if "front_end" in export.graphs:
        found = runner.run("front_end", waveform=samples)["input_features"]
        yield "front_end", distance(found, features)
        heard = read_by_decisions(runner.run("encoder", input_features=found))
        yield "waveform to encoder", distance(heard["audio_embeds"], wanted["audio_embeds"])
    encoded = runner.run("encoder", input_features=features.numpy())
    yield "encoder", distance(encoded["audio_embeds"], wanted["audio_embeds"])
    if "audio_states" in wanted:
        yield "encoder's states", distance(encoded["audio_states"], wanted["audio_states"])
    if "tag_probabilities" in encoded:
        tags = model.audio_encoder(features).tag_logits.sigmoid().mean(dim=1)
        yield "encoder's tags", distance(encoded["tag_probabilities"], tags)
    if scores:
        given = {name: values.numpy() for name, values in wanted.items()}
        yield "decisions", far(runner.run("decisions", **given), scores)
        if heard:
            yield "waveform to decisions", far(runner.run("decisions", **heard), scores)


def score(export: Export, features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the model's own log-probabilities (windows, options), by question."""
    if not export.planned:
        return {}
    prepared = export.model.decision_config.prepare_questions(export.planned, export.processor)
    found = export.model.score_options(features, **prepared)
    return {one.name: rows for one, rows in zip(export.planned, found, strict=True)}


def distance(given: np.ndarray, wanted: torch.Tensor) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(given - wanted.float().numpy()).max())


def far(given: Mapping[str, np.ndarray], wanted: Mapping[str, torch.Tensor]) -> float:
    """Return the largest absolute difference of probabilities, over questions, windows and options."""
    return float(np.max([distance(np.exp(given[name]), rows.exp()) for name, rows in wanted.items()]))

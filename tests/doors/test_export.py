"""Graphs for other runtimes: equal to the model as modules, and as files in onnxruntime, for any number of windows."""

import importlib.util
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_musicnn import small_model
from tiny import TEXTS, build_tiny_model, climb
from tiny_mert_lm import MORE_TEXTS, enlarge, join_tiny, save_parts
from transformers import PreTrainedModel, ProcessorMixin

from descant.commands import export as command
from descant.data.audio import Window
from descant.doors import export as exporting
from descant.doors.export import Export, compare, require_exporter
from descant.doors.graphs import Encoder, LogMel, Standardised
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig, QuestionType
from descant.models.mert_lm import MertLMFeatureExtractor
from descant.models.musicnn import MusicnnFeatureExtractor
from descant.training.start_mert_lm import TINY_TEXT, join_new, train_chat_tokenizer

QUESTIONS = {
    "genre": {"type": "choice", "instructions": "What is the genre?", "criteria": {"jazz": None, "rock": None}},
    "drums": {"type": "noul", "instructions": "Are there drums?"},
}
TOLERANCE = 1e-4
PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def add_types(model: PreTrainedModel, states: int) -> None:
    """Let a model decide a question whose wordings, sentences and probe differ, and one without a probe."""
    probe = torch.randn(2, states + 1, generator=torch.Generator().manual_seed(0)).tolist()
    genre = QuestionType(
        questions=["What is the genre?", "Which genre is this piece of music?"],
        answers={"jazz": ["jazz rock", "a slow piano"], "rock": ["rock with a loud guitar"]},
        shifts={"jazz": 0.5}, probe={"jazz": probe[0], "rock": probe[1]}, temperature=2.0, threshold=0.5,
    )  # fmt: skip
    drums = QuestionType(questions=["Are there drums?"], answers={"drums": ["drums"], "no drums": ["a guitar"]})
    model.decision_config = MusicDecisionConfig(question_types={"genre": asdict(genre), "drums": asdict(drums)})


def with_convolutions() -> tuple[PreTrainedModel, ProcessorMixin]:
    model, processor = build_tiny_model()
    add_types(model, 2 * model.config.d_model)
    return model, processor


def with_musicnn() -> tuple[PreTrainedModel, ProcessorMixin]:
    """A language model behind small ears, as the model in the box has them."""
    torch.manual_seed(0)
    tokenizer = train_chat_tokenizer([*TEXTS, *MORE_TEXTS])
    joined = {"layer_mix": "last", "pooling": "mean", "projector": "linear", "tokens_per_state": 3}
    extractor = MusicnnFeatureExtractor(num_mel_bins=EARS.config.num_mel_bins)
    model, processor = join_new(EARS, extractor, tokenizer, TINY_TEXT, joined)
    enlarge(model.language_model, 0.5)
    add_types(model, 2 * model.config.text_config.hidden_size + len(model.projector.mean))
    return model.eval(), processor


EARS = small_model(timbre_cepstra=2, tempo_bands=1, tempo_periods=4)


def songs(rate: int, window_s: float, count: int = 3) -> list[np.ndarray]:
    return [climb(window_s, rate, 110.0 * 1.3**step).astype(np.float32) for step in range(count)]


@pytest.mark.parametrize("extractor", [MusicnnFeatureExtractor(), LPMusicCapsFeatureExtractor()])
def test_log_mel_is_that_of_the_feature_extractor(extractor: MusicnnFeatureExtractor) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=extractor.num_samples).astype(np.float32)
    given = LogMel(extractor)(torch.from_numpy(noise)[None])[0]
    assert (given - torch.from_numpy(extractor.extract(noise))).abs().mean() < TOLERANCE


def test_samples_are_standardised_as_by_the_feature_extractor() -> None:
    noise = 3 + np.random.default_rng(0).normal(size=12_000).astype(np.float32)
    for normalises in (True, False):
        extractor = MertLMFeatureExtractor(window_s=0.5, do_normalize=normalises)
        given = Standardised(extractor)(torch.from_numpy(noise)[None])[0]
        torch.testing.assert_close(given, torch.from_numpy(extractor.extract(noise)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", [with_convolutions, with_musicnn])
@torch.no_grad()
def test_modules_give_what_the_model_gives(build: object) -> None:
    model, processor = build()
    export = Export(model, processor, "tiny", QUESTIONS)
    extractor = processor.feature_extractor
    sounds = songs(extractor.sampling_rate, extractor.window_s)
    features = processor(audio=sounds, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
    encoded = Encoder(model)(features)
    torch.testing.assert_close(encoded["audio_embeds"], model.get_audio_features(features), rtol=0, atol=1e-5)
    read = exporting.read_by_decisions(encoded)
    given, wanted = export.graphs["decisions"](**read), exporting.score(export, features)
    assert list(given) == list(wanted) == ["genre", "drums"]
    for name, scores in wanted.items():
        assert scores.std(dim=0).max() > 10 * TOLERANCE, "the sounds are not told apart"
        torch.testing.assert_close(given[name], scores, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_ears_traced_are_the_ears(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.rand(2, 400, EARS.config.num_mel_bins, generator=torch.Generator().manual_seed(0))
    features[1, 300:] = 0
    wanted = EARS(features)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for name, value in EARS(features).items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-5, msg=name)


def test_mert_needs_no_typed_questions(tmp_path: Path) -> None:
    model, processor = join_tiny(save_parts(tmp_path))
    export = Export(model, processor, "tiny")
    assert list(export.graphs) == ["front_end", "encoder"]
    with pytest.raises(ValueError, match="no decision.json"):
        Export(model, processor, "tiny", QUESTIONS)


def test_what_cannot_be_decided_is_refused() -> None:
    model, processor = with_convolutions()
    asked = {
        "weather": {"type": "choice", "instructions": "What is the weather?", "criteria": {"wet": None, "dry": None}}
    }
    with pytest.raises(ValueError, match="'weather' is of no type that the model was trained on"):
        Export(model, processor, "tiny", asked)
    model.decision_config.question_types["genre"]["probe"] = {"jazz": [1.0, 2.0], "rock": [3.0, 4.0]}
    with pytest.raises(ValueError, match="fitted for another model"):
        Export(model, processor, "tiny", QUESTIONS)


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec("json")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else there)
    with pytest.raises(ImportError, match=r"^onnxscript is not installed: pip install descant\[export\]$"):
        require_exporter()


def test_files_give_what_the_model_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in exporting.NEEDED:
        pytest.importorskip(name, reason=f"{name} of descant[export] is not installed")
    pytest.importorskip("transformers.exporters", reason="transformers before 5.24 has no exporters")
    model, processor = with_musicnn()
    export = Export(model, processor, "tiny", QUESTIONS)
    folder = tmp_path / "exported"
    export.save(folder)
    assert capsys.readouterr().out == ""
    settings = json.loads((folder / "descant.json").read_text(encoding="utf-8"))
    assert settings["questions"]["genre"]["options"] == ["jazz", "rock"]
    assert settings["graphs"]["front_end"]["inputs"] == {"waveform": ["batch", settings["num_samples"]]}
    rate, window_s = settings["sampling_rate"], settings["window_s"]
    sounds = songs(rate, window_s, count=exporting.WINDOWS_AT_ONCE + 1)  # a batch of many, then of one
    count, differences = compare(export, folder, [Window(0.0, window_s, one) for one in sounds])
    assert count == len(sounds)
    assert {"front_end", "encoder", "decisions", "waveform to decisions"} <= differences.keys()
    assert max(differences["encoder"], differences["decisions"]) < TOLERANCE
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(script, PAGE.name, "exec"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["genre", "drums"]
    torch.nn.init.normal_(model.get_output_embeddings().weight)
    _, changed = compare(export, folder, [Window(0.0, window_s, sounds[0])])
    assert changed["decisions"] > TOLERANCE, "another model is not told apart"


def test_a_graph_that_gives_no_numbers_is_not_equal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pairs = [("encoder", float("nan")), ("encoder's states", 1e-6), ("front_end", 1.0)]
    monkeypatch.setattr(exporting, "Runner", lambda folder: None)
    monkeypatch.setattr(exporting, "compare_group", lambda *_: iter(pairs))
    export = Export(*with_convolutions(), "tiny", QUESTIONS)
    sounds = [Window(0.0, 10.0, np.zeros(160_000, np.float32))]
    assert not command.are_equal(compare(export, tmp_path, sounds * (exporting.WINDOWS_AT_ONCE + 1))[1])
    pairs[0] = ("encoder", 1e-6)
    assert command.are_equal(compare(export, tmp_path, sounds)[1]) and not command.are_equal({})
    pairs[1] = ("encoder's states", 1e-2)
    assert not command.are_equal(compare(export, tmp_path, sounds)[1])


def test_command_needs_a_folder_for_output(capsys: pytest.CaptureFixture) -> None:
    from descant.cli import build_parser

    with pytest.raises(SystemExit):
        build_parser().parse_args(["export", "--output", ""])
    assert "the path is empty" in capsys.readouterr().err
    args = build_parser().parse_args(["export", "--output", "folder", "--check", "a.wav"])
    assert (args.func, args.format, args.model, args.check) == (command.run, "onnx", None, ["a.wav"])

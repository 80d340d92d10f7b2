"""One test of `descant.models.contract` for every model that answers questions, its folder and its adapter's folder.

A model that is registered for question answering, and is not in BUILDERS, fails here.
"""

import csv
import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import build_tiny_model, write_song
from tiny_mert_lm import join_tiny, save_parts
from transformers import AutoModelForMultimodalLM, AutoProcessor, PreTrainedModel, ProcessorMixin, pipeline

import descant.models
from descant.answering import collection
from descant.cli import main
from descant.data.audio import load_audio
from descant.models import contract
from descant.models.registration import MODELS
from descant.training.start import add_lora

Built = tuple[PreTrainedModel, ProcessorMixin]

BUILDERS: dict[str, Callable[[Path], Built]] = {
    "lp_music_caps": lambda folder: build_tiny_model(),
    "mert_lm": lambda folder: join_tiny(save_parts(folder), tokens_per_state=2),
}
QUESTIONS = ["What is the genre?", "Which instruments play a slow piano and jazz?", None, "Fast?"]
QUESTION = QUESTIONS[0]
ANSWERS = ["a slow piano", "jazz rock with a loud guitar", "drums", "What is the genre?"]


def test_every_question_answering_model_is_here() -> None:
    assert BUILDERS.keys() == {name for name, classes in MODELS.items() if "AutoModelForMultimodalLM" in classes}


@pytest.fixture(scope="module", params=BUILDERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def built(kind: str, tmp_path: Path) -> Built:
    return BUILDERS[kind](tmp_path / "parts")


def list_members(protocol: type) -> Iterator[tuple[str, Any]]:
    """The names that a protocol and those above it name, with the methods among them."""
    for above in protocol.__mro__:
        if above.__module__ == contract.__name__:
            members = dict.fromkeys(above.__dict__.get("__annotations__", {})) | vars(above)
            yield from ((name, value) for name, value in members.items() if name == "__call__" or name[0] != "_")


def find_missing(thing: object, protocol: type) -> set[str]:
    """The members of a protocol, and the arguments of its methods, that a thing has not."""
    missing = set()
    for name, expected in list_members(protocol):
        if not hasattr(thing, name):
            missing.add(name)
        elif inspect.isfunction(expected):
            own = inspect.signature(getattr(thing, name)).parameters
            takes_any = any(one.kind is one.VAR_KEYWORD for one in own.values())
            named = inspect.signature(expected).parameters.keys() - {"self", "kwargs"}
            missing |= set() if takes_any else {f"{name}({argument})" for argument in named - own.keys()}
    return missing


def test_it_has_all_that_the_contract_names(built: Built) -> None:
    model, processor = built
    front_end = model.cached_features(processor.feature_extractor)
    pairs = [
        (model, contract.QuestionAnsweringModel), (processor, contract.QuestionProcessor),
        (processor.feature_extractor, contract.FeatureExtractor), (front_end, contract.FrontEnd),
    ]  # fmt: skip
    assert {protocol.__name__: find_missing(thing, protocol) for thing, protocol in pairs} == {
        protocol.__name__: set() for _, protocol in pairs
    }
    assert find_missing(object(), contract.FrontEnd) >= {"sampling_rate", "window_s", "num_samples", "extract"}


# The processor and the front end


def make_clips(processor: ProcessorMixin) -> list[np.ndarray]:
    """Four clips of different lengths, all shorter than a window."""
    size, shapes = processor.feature_extractor.num_samples, ((1, 9), (2, 5), (3, 7), (2, 3))
    return [np.sin(np.arange(size // part) / step).astype(np.float32) for part, step in shapes]


def make_batch(processor: ProcessorMixin) -> dict[str, torch.Tensor]:
    """What the model answers: a clip and a question, or none, a row."""
    rate = processor.feature_extractor.sampling_rate
    return dict(processor(audio=make_clips(processor), text=QUESTIONS, sampling_rate=rate, return_tensors="pt"))


def make_labels(processor: ProcessorMixin) -> torch.Tensor:
    ids = processor.answer_ids(ANSWERS)
    longest = max(map(len, ids))
    return torch.tensor([row + [-100] * (longest - len(row)) for row in ids])


def test_features_have_the_shape_that_the_extractor_names(built: Built) -> None:
    _, processor = built
    extractor = processor.feature_extractor
    assert extractor.num_samples == round(extractor.window_s * extractor.sampling_rate)
    features = make_batch(processor)["input_features"]
    assert list(features.shape) == [4, *extractor.feature_shape] == [4, *extractor.to_dict()["feature_shape"]]
    for row, clip in enumerate(make_clips(processor)):
        torch.testing.assert_close(torch.as_tensor(np.asarray(extractor.extract(clip))), features[row])


def test_prompts_hold_the_question_or_ask_for_a_caption(built: Built) -> None:
    _, processor = built
    batch = make_batch(processor)
    padded = processor.build_prompts(QUESTIONS)
    for row, question in enumerate(QUESTIONS):
        visible = batch["prompt_attention_mask"][row].bool()
        ids = processor.prompt_ids(question) or []
        assert batch["prompt_input_ids"][row][visible].tolist() == ids
        assert padded["prompt_input_ids"][row] == batch["prompt_input_ids"][row].tolist()
        assert question is None or question in processor.tokenizer.decode(ids)


def test_answers_are_learnt_with_their_end_and_read_back(built: Built) -> None:
    model, processor = built
    whole, short = processor.answer_ids(ANSWERS), processor.answer_ids(ANSWERS, 4)
    ends = {row[-1] for row in whole}
    assert len(ends) == 1 and all(row[-1] in ends and len(row) <= 4 for row in short)
    assert processor.batch_decode(whole, skip_special_tokens=True) == ANSWERS
    assert processor.answer_ids([]) == []


def test_cached_features_stand_for_the_audio(built: Built) -> None:
    model, processor = built
    front_end = model.cached_features(processor.feature_extractor)
    front_end = pickle.loads(pickle.dumps(front_end))  # as it is sent to other processes
    kept = torch.stack([torch.as_tensor(np.asarray(front_end.extract(clip))) for clip in make_clips(processor)])
    assert list(kept.shape[1:]) == list(front_end.to_dict()["feature_shape"])
    assert json.loads(json.dumps(front_end.to_dict())) == front_end.to_dict()
    with torch.no_grad():
        heard = model.get_audio_features(make_batch(processor)["input_features"])
        torch.testing.assert_close(model.get_audio_features(kept), heard, atol=1e-4, rtol=1e-4)
    width = model.get_input_embeddings().weight.shape[1]
    assert heard.shape == (4, model.config.audio_positions, width)


# The model


def test_the_loss_counts_labels_and_is_scaled_and_smoothed(built: Built) -> None:
    model, processor = built
    batch, labels = make_batch(processor), make_labels(processor)
    result, count = model(**batch, labels=labels), int((labels != -100).sum())
    flat = result.logits.flatten(0, 1), labels.flatten()
    torch.testing.assert_close(result.loss, torch.nn.functional.cross_entropy(*flat))
    torch.testing.assert_close(model(**batch, labels=labels, num_items_in_batch=4 * count).loss * 4, result.loss)
    for smoothing in (0.0, 0.1):
        alone = model(**batch, labels=labels, label_smoothing=smoothing)
        expected = torch.nn.functional.cross_entropy(*flat, label_smoothing=smoothing)
        torch.testing.assert_close(alone.loss, expected, atol=1e-4, rtol=1e-4)
        assert alone.logits is None
    decoder_ids = model.prepare_decoder_input_ids_from_labels(labels)
    again = model(**batch, decoder_input_ids=decoder_ids, labels=labels)
    torch.testing.assert_close(again.loss, result.loss)


@torch.no_grad()
def test_rows_of_a_clip_share_it(built: Built) -> None:
    model, processor = built
    batch, labels = make_batch(processor), make_labels(processor)
    clips = torch.tensor([0, 1, 0, 1])
    repeated = {**batch, "input_features": batch["input_features"][clips]}
    shared = {**batch, "input_features": batch["input_features"][:2], "clip_index": clips}
    expected = model(**repeated, labels=labels)
    torch.testing.assert_close(model(**shared, labels=labels).loss, expected.loss, atol=1e-4, rtol=1e-4)
    embeds = model.get_audio_features(shared.pop("input_features"))
    by_embeds = model(**shared, audio_embeds=embeds, labels=labels)
    torch.testing.assert_close(by_embeds.loss, expected.loss, atol=1e-4, rtol=1e-4)
    assert torch.equal(model.generate(**shared, audio_embeds=embeds), model.generate(**repeated))
    assert torch.equal(model.generate(**repeated, labels=labels), model.generate(**repeated))


def test_a_step_moves_what_trains_and_nothing_else(built: Built) -> None:
    model, processor = built
    model.train()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    model(**make_batch(processor), labels=make_labels(processor)).loss.backward()
    optimizer.step()
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == trained != set()


def strip(model: PreTrainedModel, tokens: list[int]) -> list[int]:
    """An answer without the padding behind its end, which may be the same token."""
    ends = model.generation_config.eos_token_id
    ends = {model.config.pad_token_id, *(ends if isinstance(ends, list) else [ends])}
    begin = next((place for place, token in enumerate(tokens) if place and token in ends), len(tokens))
    return tokens[:begin]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"max_length": 5}])
def test_a_stream_gives_the_answers_of_generate_and_of_each_question_alone(built: Built, settings: dict) -> None:
    model, processor = built
    batch = make_batch(processor)
    expected = [strip(model, row) for row in model.generate(**batch, **settings).tolist()]
    prompts = [processor.prompt_ids(question) for question in QUESTIONS]
    pairs = list(zip("abcd", batch["input_features"], prompts, strict=True))
    for size in (1, 3):
        answers = sorted(model.answer_many(pairs, batch_size=size, **settings))
        assert [place for place, _, _ in answers] == [0, 1, 2, 3]
        assert [strip(model, tokens) for _, tokens, _ in answers] == expected
        assert all(score < 0 for _, _, score in answers)
    assert len({tuple(row) for row in expected}) > 1  # or the test says nothing


def test_a_stream_is_read_no_further_than_two_batches_ahead(built: Built) -> None:
    model, processor = built
    features, ids = make_batch(processor)["input_features"][0], processor.prompt_ids(QUESTION)
    read = []

    def pairs() -> Iterator[contract.Pair]:
        for number in range(100):
            read.append(number)
            yield number, features, ids

    next(model.answer_many(pairs(), batch_size=3))
    assert len(read) <= 3 + 2 * 3 + 1


def test_clips_of_a_stream_are_encoded_once(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = built
    features, encoded = make_batch(processor)["input_features"], []
    own = model.get_audio_features
    monkeypatch.setattr(model, "get_audio_features", lambda clips: encoded.append(len(clips)) or own(clips))
    prompts = [processor.prompt_ids(question) for question in QUESTIONS]
    pairs = [(clip, features[clip], prompt) for clip in (0, 1) for prompt in prompts]
    assert len(list(model.answer_many(pairs, batch_size=4))) == 8
    assert sum(encoded) == 2


def test_every_tier_answers(built: Built) -> None:
    model, processor = built
    for tier in model.tiers:
        try:
            answers = model.generate(**make_batch(processor), tier=tier)
        except ValueError as error:  # this processor has not what the tier needs
            assert f"tier {tier!r} needs" in str(error)
        else:
            assert len(answers) == 4


def test_lora_trains_its_matrices_and_the_modules_that_are_named(built: Built) -> None:
    model, _ = built
    adapted = add_lora(model, 2)
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    whole = {name for name in trained if "lora_" not in name}
    assert any("lora_A" in name for name in trained)
    assert whole and all(any(f".{module}." in name for module in model.lora_modules_to_save) for name in whole)


# Folders: of the model, and of an adapter


@dataclass(frozen=True)
class Place:
    """Folders of a model and of an adapter to it, beside songs of two and a half windows and of one."""

    root: Path
    window_s: float
    rate: int

    def folder(self, name: str) -> Path:
        return self.root / name

    def song(self, name: str) -> Path:
        return self.root / "songs" / f"{name}.wav"


FOLDERS = ["model", "adapter"]


@pytest.fixture(scope="module")
def place(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp(kind)
    model, processor = BUILDERS[kind](root / "parts")
    model.save_pretrained(root / "model")
    for name in FOLDERS:
        processor.save_pretrained(root / name)
    adapted = add_lora(AutoModelForMultimodalLM.from_pretrained(root / "model"), 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.2 * torch.randn_like(weight)
    adapted.save_pretrained(root / "adapter")
    adapted.get_base_model().save_beside_adapter(str(root / "adapter"))
    window_s, rate = processor.feature_extractor.window_s, processor.feature_extractor.sampling_rate
    (root / "songs").mkdir()
    write_song(root / "songs" / "a.wav", 2.5 * window_s, rate)
    write_song(root / "songs" / "b.wav", window_s, rate, start_hertz=300.0)
    return Place(root, window_s, rate)


def answer_first_window(place: Place, folder: str) -> str:
    """What the loaded model says to the first window of the first song."""
    model = AutoModelForMultimodalLM.from_pretrained(place.folder(folder))
    processor = AutoProcessor.from_pretrained(place.folder(folder))
    window = load_audio(str(place.song("a")), place.rate)[: processor.feature_extractor.num_samples]
    inputs = processor(audio=[window], text=[QUESTION], sampling_rate=place.rate, return_tensors="pt")
    return processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)[0].strip()


def test_an_adapter_changes_the_answers(place: Place) -> None:
    assert answer_first_window(place, "model") != answer_first_window(place, "adapter")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_asked_about_every_window(place: Place, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    song = str(place.song("a"))
    assert main(["ask", str(place.folder(folder)), song, "-q", QUESTION, "--json", "--windows"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    starts = [0.0, place.window_s, 2 * place.window_s]
    assert [(one["start_s"], one["end_s"]) for one in answers] == list(
        zip(starts, [*starts[1:], 2.5 * place.window_s], strict=True)
    )
    assert answers[0]["prediction"] == answer_first_window(place, folder)
    assert all(one["score"] < 0 for one in answers)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pipeline_answers_as_generate_does(place: Place, folder: str) -> None:
    listen = pipeline("music-question-answering", model=str(place.folder(folder)))
    answers = listen(str(place.song("a")), question=[QUESTION, "Fast?"], batch_size=3, windows=True)
    assert [(one["start_s"], one["question"]) for one in answers[:3]] == [
        (0.0, QUESTION), (0.0, "Fast?"), (place.window_s, QUESTION),
    ]  # fmt: skip
    assert answers[0]["answer"] == answer_first_window(place, folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_songs_is_captioned(place: Place, folder: str, tmp_path: Path) -> None:
    arguments = ["--checkpoint", place.folder(folder), "--audio", place.root / "songs", "--output", tmp_path / "c.csv"]
    assert collection.caption_collection((QUESTION, "Fast?"), 2, list(map(str, arguments))) == 0
    with (tmp_path / "c.csv").open() as file:
        assert [row["audio_path"] for row in csv.DictReader(file)] == ["a.wav", "b.wav"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_evaluated_with_every_control(place: Place, folder: str, tmp_path: Path) -> None:
    rows = [
        {"audio": str(place.song(name)), "question": QUESTION, "answer": "jazz", "question_type": "genre",
         "split": "test"} for name in "ab"
    ]  # fmt: skip
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = main(
        ["evaluate", str(place.folder(folder)), "--dataset", str(tmp_path / "own.jsonl"), "--protocol", "musilingo",
         "--features", str(tmp_path / "features"), "--output_dir", str(tmp_path / "out"), "--controls"]
    )  # fmt: skip
    assert done == 0
    for name in ("answers", "answers-shuffled", "answers-noise", "answers-silence", "answers-no_question"):
        answers = [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        assert len(answers) == 2 and all(one["prediction"] is not None for one in answers), name


def test_files_that_several_folders_carry_are_equal() -> None:
    """A published model carries its folder's files and no others, so some stand in several folders."""
    found: dict[str, set[bytes]] = {}
    for file in Path(descant.models.__path__[0]).glob("*/*.py"):
        if file.name != "__init__.py":
            found.setdefault(file.name, set()).add(file.read_bytes())
    assert "pipeline_music.py" in found
    assert [name for name, contents in found.items() if len(contents) > 1] == []

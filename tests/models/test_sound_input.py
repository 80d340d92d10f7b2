"""Tests of the message form: sound in all its forms, chats that are answered and refused, transformers' pipeline."""

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hub import LocalHub
from tiny import climb, save_tiny_model, write_song
from tiny_mert_lm import save_tiny_mert_lm
from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline

import descant  # noqa: F401 - registers the classes
from descant.models.lp_music_caps.sound_input import cut_track, fetch, hear_window, read_chat

QUESTIONS = ["Which genre?", "Which instruments play a slow piano and jazz in this song?"]
TURN = {"role": "user", "content": "And drums?"}


@pytest.fixture(scope="module", params=["lp_music_caps", "mert_lm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save = save_tiny_model if request.param == "lp_music_caps" else save_tiny_mert_lm
    return save(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForMultimodalLM.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("songs") / "song.wav", seconds=0.9, rate=24_000)


def message(question: str | None = QUESTIONS[0], **sound: Any) -> dict[str, Any]:
    text = [] if question is None else [{"type": "text", "text": question}]
    return {"role": "user", "content": [{"type": "audio", **sound}, *text]}


def prepare(processor: Any, chat: Any, **settings: Any) -> dict[str, torch.Tensor]:
    usual = {"tokenize": True, "return_dict": True, "add_generation_prompt": True}
    return dict(processor.apply_chat_template(chat, **usual | settings))


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_chat_is_what_a_call_with_sound_and_question_is(loaded: tuple[Any, Any], song: Path) -> None:
    model, processor = loaded
    rate = processor.feature_extractor.sampling_rate
    wave = hear_window(song, processor.feature_extractor)
    expected = dict(processor(audio=[wave], text=QUESTIONS[:1], sampling_rate=rate, return_tensors="pt"))
    found = prepare(processor, [message(path=str(song))])
    assert torch.equal(found.pop("input_ids"), expected["prompt_input_ids"])
    assert same(found, expected)
    twice = prepare(processor, [message(path=str(song))])
    assert torch.equal(model.generate(**twice), model.generate(**expected))
    assert torch.equal(model.generate(**twice, num_beams=1), model.generate(**expected, num_beams=1))
    labels = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(**twice, labels=labels).logits, model(**expected, labels=labels).logits)


def test_every_form_of_sound_gives_the_same(loaded: tuple[Any, Any], song: Path) -> None:
    processor = loaded[1]
    expected = prepare(processor, [message(path=str(song))])
    coded = base64.b64encode(song.read_bytes()).decode()
    wave, rate = soundfile.read(song, dtype="float32")
    forms = [
        {"path": song}, {"audio": str(song)}, {"base64": coded}, {"url": f"data:audio/wav;base64,{coded}"},
        {"audio": song.read_bytes()}, {"audio": wave, "sampling_rate": rate}, {"audio": None, "path": str(song)},
        {"audio": {"array": wave, "sampling_rate": rate}}, {"audio": wave.tolist(), "sampling_rate": rate},
    ]  # fmt: skip
    with served(song.parent) as address:
        forms.append({"url": f"{address}/{song.name}"})
        for form in forms:
            assert same(prepare(processor, [message(**form)]), expected), form
    settings = {"processor_kwargs": {"sampling_rate": rate}}
    assert same(prepare(processor, [message(audio=wave)], **settings), expected)
    assert same(prepare(processor, [message(audio=torch.from_numpy(wave))], sampling_rate=rate), expected)


def test_a_batch_of_chats_is_answered_as_each_by_itself(loaded: tuple[Any, Any], song: Path) -> None:
    model, processor = loaded
    chats = [[message(question, path=str(song))] for question in (*QUESTIONS, None)]
    batch = prepare(processor, chats)
    assert len(batch["input_features"]) == len(batch["input_ids"]) == 3
    together = processor.batch_decode(model.generate(**batch), skip_special_tokens=True)
    alone = [model.generate(**prepare(processor, chat)) for chat in chats]
    assert together == [processor.batch_decode(one, skip_special_tokens=True)[0] for one in alone]
    assert len(set(together)) > 1
    listed = prepare(processor, chats, return_tensors=None, padding=False)
    assert listed["prompt_input_ids"] == [processor.prompt_ids(question) or [] for question in (*QUESTIONS, None)]


def test_a_chat_of_text_and_one_of_tokens(loaded: tuple[Any, Any]) -> None:
    processor = loaded[1]
    chat = [message("Fast\n or slow?", path="nowhere.wav")]
    assert "Fast\n or slow?" in processor.apply_chat_template(chat)
    assert processor.apply_chat_template([chat]) == [processor.apply_chat_template(chat)]
    parts = [{"type": "text", "text": "Fast?"}, {"type": "audio", "path": "a"}, {"type": "text", "text": " Or slow? "}]
    assert "Fast? Or slow?" in processor.apply_chat_template([{"role": "user", "content": parts}])
    wave = climb(0.9, 16_000, 220.0).astype(np.float32)
    tokens = processor.apply_chat_template([message(audio=wave)], tokenize=True, sampling_rate=16_000)
    assert tokens.tolist() == [processor.prompt_ids(QUESTIONS[0])]


@pytest.mark.parametrize(
    ("chat", "sentence"),
    [
        ([{"role": "user", "content": "Fast?"}], "a message holds no audio: give one part"),
        ([{"role": "user", "content": [{"type": "text", "text": "Fast?"}]}], "holds no audio"),
        ([{"role": "user", "content": []}], "holds no audio"),
        ([{"role": "user", "content": [{"type": "audio", "path": "a"}] * 2}], "holds 2 sounds"),
        ([{"role": "system", "content": "Be brief."}, message(path="a")], "follows no system message"),
        ([message(path="a"), {"role": "assistant", "content": "Jazz."}, TURN], "3 messages were given, and earlier"),
        ([message(path="a"), {"role": "assistant", "content": "It is"}], "the last message is the assistant's"),
        ([message(path="a") | {"role": "tool"}], "knows no role 'tool'"),
        ([message()], "holds no sound: give one of"),
        ([message(path="a", url="b")], "holds path and url"),
        ([message(base64="@@")], "is no base64"),
        ([message(url="data:audio/wav;base64")], "holds no comma"),
        ([message(audio=["a.wav", "b.wav"])], "holds a list, and no waveform"),
        ([{"role": "user", "content": [{"type": "image", "url": "a"}]}], "of type 'image': the model takes audio"),
        ([{"role": "user", "content": [{"type": "audio", "path": "a"}, {"type": "text"}]}], "holds no text"),
        ([{"role": "user"}], "neither text nor a list"),
        ([], "give a list with a message"),
        ("Fast?", "give a list with a message"),
        (["Fast?"], "is no list of messages"),
    ],
)  # fmt: skip
def test_other_chats_are_refused_in_a_sentence(loaded: tuple[Any, Any], chat: Any, sentence: str) -> None:
    for settings in ({}, {"tokenize": False}):
        with pytest.raises(ValueError, match=sentence):
            prepare(loaded[1], chat, **settings)


@pytest.mark.parametrize("name", ["chat_template", "tools", "documents", "continue_final_message"])
def test_settings_that_change_the_prompt_are_refused_by_name(loaded: tuple[Any, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be followed"):
        prepare(loaded[1], [message(path="a")], **{name: "x"})
    with pytest.raises(ValueError, match="a message holds no audio"):
        prepare(loaded[1], [[message(path="a")], [TURN]])
    with pytest.raises(TypeError, match="knows no argument loud"):
        prepare(loaded[1], [message(audio=np.sin(np.arange(19_999.0)))], loud=True)


def test_sound_is_refused_as_everywhere(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    junk, silent = tmp_path / "junk.wav", tmp_path / "silent.wav"
    junk.write_bytes(b"no sound" * 999)
    soundfile.write(silent, np.zeros(30_000), 24_000)
    for path, reason in ((junk, "is not sound that can be read"), (silent, "is silent"), ("no.wav", "no such file")):
        with pytest.raises(ValueError, match=f"{path}: .*{reason}"):
            prepare(loaded[1], [message(path=str(path))])
    with pytest.raises(ValueError, match=r"bytes: is not sound") as raised:
        prepare(loaded[1], [message(base64=base64.b64encode(junk.read_bytes()).decode())])
    assert len(str(raised.value)) < 100


def test_tokens_without_a_prompt_are_refused(loaded: tuple[Any, Any], song: Path) -> None:
    model, inputs = loaded[0], prepare(loaded[1], [message(path=str(song))])
    tokens = torch.ones(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="prompt"):
        model.generate(input_features=inputs["input_features"], input_ids=tokens)
    with pytest.raises(ValueError, match="prompt"):
        model(input_features=inputs["input_features"], input_ids=tokens, labels=tokens)


def test_of_a_long_recording_the_middle_window_is_heard(
    loaded: tuple[Any, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extractor = loaded[1].feature_extractor
    rate, window_s = extractor.sampling_rate, extractor.window_s
    wave = np.concatenate([climb(3 * window_s, rate, 220.0), np.zeros(round(2 * window_s * rate))])
    soundfile.write(tmp_path / "long.wav", wave, rate, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        found = prepare(loaded[1], [message(path=str(tmp_path / "long.wav"))])
    spans = cut_track(wave.astype(np.float32), rate, window_s, None)
    expected = prepare(loaded[1], [message(audio=spans[1][2], sampling_rate=rate)])
    assert same(found, expected)
    assert f"{window_s:g}–{2 * window_s:g} s" in caplog.text


def test_a_part_is_read_whatever_stands_beside_it() -> None:
    assert read_chat([message(None, path="a", text=None)]).question is None
    assert read_chat([message("  ", path="a")]).question is None


# Transformers' pipeline


def test_the_any_to_any_pipeline_answers_as_generate_does(
    folder: Path, loaded: tuple[Any, Any], song: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, processor = loaded
    pipe = pipeline("any-to-any", model=str(folder))
    settings = {"max_new_tokens": 6}
    chats = [[message(question, path=str(song))] for question in (*QUESTIONS, None)]
    tokens = [model.generate(**prepare(processor, chat), **settings) for chat in chats]
    answers = [processor.batch_decode(row, skip_special_tokens=True)[0].strip() for row in tokens]
    assert all(answers)
    found = [pipe(chat, return_full_text=False, **settings)[0] for chat in chats]
    assert [one["generated_text"] for one in found] == answers
    whole = pipe(text=chats[0], **settings)[0]["generated_text"]
    assert whole == [*chats[0], {"role": "assistant", "content": answers[0]}]
    for size in (1, 2):
        batch = pipe(chats, return_full_text=False, batch_size=size, **settings)
        assert [one[0]["generated_text"] for one in batch] == answers
    plain = pipe(text=QUESTIONS[0], audio=str(song), return_full_text=False, **settings)
    wave, rate = soundfile.read(song, dtype="float32")
    assert plain[0]["generated_text"] == answers[0]
    if rate == processor.feature_extractor.sampling_rate:
        waves = pipe(text=QUESTIONS[:1], audio=[wave], return_full_text=False, **settings)
        assert waves[0]["generated_text"] == answers[0]
    with pytest.raises(ValueError, match="earlier ones cannot be used"):
        pipe([*chats[0], {"role": "assistant", "content": "Jazz."}, TURN])
    with pytest.raises(ValueError, match="no such file"):
        pipe(text="Fast?", audio="nowhere.wav")
    assert "is not supported for any-to-any" not in caplog.text


def test_an_answer_that_begins_as_its_question_stays_whole(
    folder: Path, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline("any-to-any", model=str(folder))
    start = [2, 0] if pipe.model.config.is_encoder_decoder else []  # `</s><s>`, with which BART's answers begin
    echo = torch.tensor([[*start, *pipe.tokenizer("jazz rock", add_special_tokens=False)["input_ids"]]])
    monkeypatch.setattr(pipe.model, "generate", lambda **_: echo)
    found = pipe([message("jazz", path=str(song))], return_full_text=False)
    assert found[0]["generated_text"] == "jazz rock"


def test_what_lies_behind_an_address_is_fetched_or_named_without_its_signature(
    song: Path, local_hub: LocalHub
) -> None:
    with served(song.parent) as url:
        assert fetch(f"{url}/{song.name}?sig=hunter2") == song.read_bytes()
        with pytest.raises(ValueError, match="cannot be fetched: HTTP Error 404") as raised:
            fetch(f"{url}/none.wav?sig=hunter2")
    assert str(raised.value).startswith(f"{url}/none.wav: ") and "hunter2" not in str(raised.value)
    with pytest.raises(ValueError, match="hf://datasets/me/none/a.wav: cannot be fetched"):
        fetch("hf://datasets/me/none/a.wav")

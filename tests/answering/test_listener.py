"""Answers to dataset rows, with the right audio and with another clip's."""

import io
import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile
import torch
from tiny import build_tiny_model, save_tiny_decider, save_tiny_model, write_song
from tiny_mert_lm import save_tiny_mert_lm
from transformers import GenerationConfig

import descant
from descant.answering.answers import pool_track
from descant.answering.listener import (
    Answer,
    Asking,
    Listener,
    answer_id,
    show_progress,
)
from descant.answering.model_folder import ModelFolderError
from descant.answering.questions import TypedQuestions
from descant.answering.stream import AnswerStream, Outcome, Recording, Request, in_order, map_ahead
from descant.data.audio import AudioError, Window, load_audio, windows
from descant.models.lp_music_caps.decision_music import MusicDecisionConfig

GENERATION = {"num_beams": 5, "max_length": 128}


def test_the_id_changes_with_each_part_of_its_key() -> None:
    ids = {
        answer_id("a.wav", 0.0, "Which genre?", GENERATION),
        answer_id("b.wav", 0.0, "Which genre?", GENERATION),
        answer_id("a.wav", 10.0, "Which genre?", GENERATION),
        answer_id("a.wav", 0.0, None, GENERATION),
        answer_id("a.wav", 0.0, "Which genre?", {**GENERATION, "num_beams": 1}),
    }
    assert len(ids) == 5 and all(len(one) == 40 for one in ids)


def test_the_id_does_not_depend_on_the_order_of_the_settings() -> None:
    turned = dict(reversed(GENERATION.items()))
    assert answer_id("a.wav", 0.0, None, GENERATION) == answer_id("a.wav", 0.0, None, turned)


def test_what_is_made_of_items_comes_in_their_order_from_threads_of_one_core_that_are_little_ahead() -> None:
    taken, threads = [], torch.get_num_threads()

    def numbers() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    def make(number: int) -> tuple[int, int, threading.Thread]:
        time.sleep(0.02 if number % 2 else 0)
        return 10 * number, torch.get_num_threads(), threading.current_thread()

    made = map_ahead(make, numbers(), 2)
    assert next(made)[0] == 0 and taken == [0, 1, 2]
    rest = list(made)
    assert [(item, ten) for item, (ten, _, _) in rest] == [(number, 10 * number) for number in range(1, 6)]
    assert {one for _, (_, one, _) in rest} == {1} and torch.get_num_threads() == threads
    assert threading.current_thread() not in {thread for _, (_, _, thread) in rest}


def test_windows_are_encoded_in_threads_as_they_are_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(*build_tiny_model(), "tiny")
    waves = 0.1 * np.random.default_rng(0).normal(size=(5, 160_000)).astype(np.float32)
    some = [Window(10.0 * number, 10.0 * number + 10, wave) for number, wave in enumerate(waves)]
    some.insert(2, Window(90.0, 100.0, np.zeros(160_000, np.float32)))  # silent: not encoded
    encoded = []
    for threads in (1, 3):
        monkeypatch.setattr(AnswerStream, "encoding_threads", threads)
        encoded.append(list(listener.encode(some)))
        assert [one.start_s for one in encoded[-1]] == [one.start_s for one in some]
    for one, other in zip(*encoded, strict=True):
        assert type(one) is type(other) and (one.silence or torch.equal(one.features, other.features))
    assert listener.encode([]) == []


def test_a_file_name_that_is_not_text_has_an_id() -> None:
    assert answer_id("a\udcff.wav", 0.0, None, {}) != answer_id("b\udcff.wav", 0.0, None, {})


def test_a_line_of_json_has_the_fields_of_answers_jsonl() -> None:
    answer = Answer("1", "a", "a.wav", 0.0, 10.0, "Où?", "model", GENERATION, prediction="Là.", score=-0.5)
    assert "Où?" in answer.to_json()
    assert set(json.loads(answer.to_json())) == {
        "id", "clip_id", "audio", "start_s", "end_s", "question", "question_type", "prediction", "references", "score",
        "model", "generation", "error",
    }  # fmt: skip


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2)])
def test_items_leave_in_the_order_of_their_numbers(order: tuple[int, ...]) -> None:
    assert list(in_order((number, f"item {number}") for number in order)) == [f"item {number}" for number in range(4)]


def test_an_item_whose_turn_it_is_leaves_at_once() -> None:
    source = iter([(0, "first"), (2, "third"), (1, "second")])
    ordered = in_order(source)
    assert next(ordered) == "first" and next(source) == (2, "third")


QUESTIONS = ["What is the genre?", "Which instruments play, and which of them leads?", None]


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener(*build_tiny_model(), "tiny")


def record(path: Path) -> Recording:
    return Recording(path, path.name)


def ask(listener: Listener, paths: list[Path], **settings: object) -> list[Answer]:
    return list(in_order(Asking(listener, map(record, paths), QUESTIONS, **settings)))


def answer_alone(listener: Listener, samples: np.ndarray, question: str | None) -> str:
    inputs = listener.processor(audio=[samples], text=[question], sampling_rate=16_000, return_tensors="pt")
    return listener.decode(listener.model.generate(**inputs)[0].tolist())


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_every_window_and_question_is_answered_as_alone(listener: Listener, tmp_path: Path, batch_size: int) -> None:
    songs = [write_song(tmp_path / "a.wav", 25.0), write_song(tmp_path / "b.flac", 8.0, 16_000, 200.0)]
    answers = ask(listener, songs, batch_size=batch_size)
    expected = [
        (song.name, window.start_s, window.end_s, question, answer_alone(listener, window.samples, question))
        for song in songs
        for window in windows(load_audio(song))
        for question in QUESTIONS
    ]
    assert [(one.audio, one.start_s, one.end_s, one.question, one.prediction) for one in answers] == expected
    assert len({one.prediction for one in answers}) > 6  # the model tells windows and questions apart
    assert all(one.score < 0 and one.error is None for one in answers)
    assert len({one.id for one in answers}) == len(answers)


def test_it_is_known_how_many_answers_the_opened_recordings_give(listener: Listener, tmp_path: Path) -> None:
    songs = [write_song(tmp_path / f"{seconds}.wav", seconds, 22_050) for seconds in (9.99, 10.0, 20.01)]
    asking = Asking(listener, map(record, [*songs, tmp_path / "absent.wav"]), QUESTIONS)
    assert len(list(asking)) == asking.expected == asking.asked == 3 * (1 + 1 + 2) + 1  # 10 ms are no window


def test_a_bad_recording_is_one_failed_answer_in_its_place(listener: Listener, tmp_path: Path) -> None:
    good, text = write_song(tmp_path / "good.wav", 5.0), tmp_path / "text.mp3"
    text.write_text("no music")
    answers = ask(listener, [text, good, tmp_path / "absent.wav"])
    assert [one.audio for one in answers] == ["text.mp3", "good.wav", "good.wav", "good.wav", "absent.wav"]
    assert answers[-1].error == "does not exist" and answers[-1].prediction is None
    assert [one.error is None for one in answers] == [False, True, True, True, False]


def test_only_bad_recordings_give_only_failed_answers(listener: Listener, tmp_path: Path) -> None:
    assert [one.error for one in ask(listener, [tmp_path / "absent.wav"])] == ["does not exist"]


def test_known_answers_are_not_asked_for_again(listener: Listener, tmp_path: Path) -> None:
    songs = [write_song(tmp_path / "a.wav", 15.0)]
    first = ask(listener, songs)
    known = frozenset(one.id for one in first[:4])
    second = ask(listener, songs, known=known)
    assert [(one.id, one.prediction) for one in second] == [(one.id, one.prediction) for one in first[4:]]


def test_recordings_are_read_only_as_far_as_the_model_takes_them(listener: Listener, tmp_path: Path) -> None:
    read = []

    def read_windows(path: Path, rate: int, window_s: float) -> list[Window]:
        read.append(path)
        return [Window(10.0 * number, 10.0 * number + 10, np.full(160_000, 0.1, np.float32)) for number in range(6)]

    recordings = (Recording(tmp_path / f"{number}.wav", f"{number}.wav") for number in range(1000))
    answers = iter(Asking(listener, recordings, QUESTIONS, batch_size=4, read_windows=read_windows))
    next(answers)
    assert len(read) < 10


def test_a_recording_that_breaks_off_while_it_is_read_keeps_its_answers(listener: Listener, tmp_path: Path) -> None:
    class Breaking(list[Window]):
        def __iter__(self) -> Iterator[Window]:
            yield Window(0.0, 10.0, np.ones(160_000, np.float32))
            raise AudioError("a.wav", "broke off")

    asking = Asking(listener, [record(tmp_path / "a.wav")], [None], read_windows=lambda *_: Breaking([None]))
    assert [one.error for one in in_order(asking)] == [None, "broke off"]


def test_a_lower_precision_is_a_tier_where_the_model_has_one(tmp_path: Path) -> None:
    folder, song = str(save_tiny_model(tmp_path / "model")), record(write_song(tmp_path / "a.wav", 12.0))
    exact, lower = (Listener.load(folder, precision, "cpu") for precision in ("fp32", "int8"))
    answers = {precision: list(in_order(Asking(listener, [song], QUESTIONS)))
               for precision, listener in (("fp32", exact), ("int8", lower))}  # fmt: skip
    assert "tier" not in answers["fp32"][0].generation and answers["int8"][0].generation["tier"] == "int8"
    assert {one.id for one in answers["fp32"]}.isdisjoint(one.id for one in answers["int8"])
    assert all(a.score != b.score for a, b in zip(*answers.values(), strict=True))  # or the tier was not heeded


def test_a_lower_precision_is_that_of_the_weights_elsewhere(tmp_path: Path) -> None:
    folder, song = str(save_tiny_mert_lm(tmp_path / "model")), record(write_song(tmp_path / "a.wav", 3.0))
    listener = Listener.load(folder, "bf16", "cpu", max_new_tokens=3)
    answers = list(in_order(Asking(listener, [song], ["What is the genre?"])))
    assert {(one.generation["precision"], one.error) for one in answers} == {("bfloat16", None)}
    with pytest.raises(ModelFolderError, match="does not answer in int8"):
        Listener.load(folder, "int8", "cpu")


def test_settings_reach_the_model_and_stand_in_the_answer(tmp_path: Path) -> None:
    model, processor = build_tiny_model()
    greedy = Listener(model, processor, "tiny", num_beams=1, max_length=4)
    (answer,) = in_order(Asking(greedy, [record(write_song(tmp_path / "a.wav", 3.0))], [None]))
    assert answer.generation["num_beams"] == 1 and answer.generation["max_length"] == 4
    assert answer.generation["no_repeat_ngram_size"] == 3 and answer.generation["precision"] == "float32"
    expected = model.generate(**processor(audio=[load_audio(tmp_path / "a.wav")], sampling_rate=16_000,
                                          return_tensors="pt"), num_beams=1, max_length=4)  # fmt: skip
    assert answer.prediction == greedy.decode(expected[0].tolist())


@dataclass
class Terminal(io.StringIO):
    terminal: bool = True

    def __post_init__(self) -> None:
        super().__init__()

    def isatty(self) -> bool:
        return self.terminal


class Answering:
    """Two recordings: the second is opened when the first is done."""

    expected = 2

    def __iter__(self) -> Iterator[tuple[int, str]]:
        for number in range(4):
            self.expected = 2 if number < 2 else 4
            yield number, f"answer {number}"


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_passes_answers_on_and_is_only_for_terminals(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal(terminal)
    monkeypatch.setattr("sys.stderr", stderr)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    assert list(show_progress(Answering())) == [(number, f"answer {number}") for number in range(4)]
    assert ("answering" in stderr.getvalue()) == terminal


def test_a_listener_leaves_out_what_is_not_sure_unless_everything_is_asked_for(monkeypatch) -> None:
    model, processor = build_tiny_model()
    width = 2 * model.get_audio_features(torch.zeros(1, 128, 1001)).shape[2] + 1
    sound = Window(0.0, 10.0, np.random.default_rng(0).normal(size=160_000).astype(np.float32))
    said = "It is fast. It is jazz."
    monkeypatch.setattr(AnswerStream, "decode", lambda self, token_ids: said)
    own = Listener(model, processor, "tiny")
    probe = {option: [0.0] * (width - 1) + [constant] for option, constant in (("fast", 0.0), ("slow", 9.0))}
    claims = {"probes": {"tempo_class": probe}, "thresholds": {"tempo_class": 0.9}}
    monkeypatch.setattr(model, "decision_config", MusicDecisionConfig(claims=claims))
    sure, everything = Listener(model, processor, "tiny"), Listener(model, processor, "tiny", everything=True)
    texts = [one.answer_windows("a.wav", [sound], [None])[0].prediction for one in (own, everything, sure)]
    assert texts == [said, said, "It is jazz."]
    assert own.generation == everything.generation and sure.generation == {**own.generation, "claims": "sure"}


class Scripted:
    """A model that fails as it is told to: its answer to a request is the request's key."""

    dtype, device, tiers = torch.float32, torch.device("cpu"), ("fp32",)
    generation_config, decision_config = GenerationConfig(), None

    def __init__(self, bad: dict[str, Exception | float | None], ahead: int = 4) -> None:
        self.bad, self.ahead, self.runs = bad, ahead, []

    def answer_many(self, pairs: Iterable, *, batch_size: int) -> Iterator[tuple[int, list[int], float]]:
        self.runs.append(batch_size)
        numbered = enumerate(pairs)
        while batch := list(islice(numbered, self.ahead)):
            for _, (key, _, _) in batch:
                if isinstance(self.bad.get(key), Exception):
                    raise self.bad[key]
            for position, (key, _, _) in reversed(batch):
                if self.bad.get(key, 0.0) is not None:
                    yield position, [ord(key)], self.bad.get(key, -0.5)


class Letters:
    """A processor whose tokens are letters."""

    def prompt_ids(self, question: str | None) -> list[int] | None:
        if question == "?":
            raise TypeError("TextInputSequence must be str")
        return None

    def batch_decode(self, rows: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return ["".join(map(chr, row)) for row in rows]


def answer_letters(
    letters: str, bad: dict[str, Exception | float | None], questions: dict[str, str] | None = None, **settings: bool
) -> dict[str, Outcome]:
    listener = Listener(Scripted(bad), Letters(), "scripted")
    sounds = {"n": torch.tensor([1.0, float("nan")]), "i": torch.tensor([float("inf")]), "s": "is silent"}
    requests = (
        Request(letter, letter, (questions or {}).get(letter), sounds.get(letter, torch.ones(2))) for letter in letters
    )
    outcomes = list(listener.answer(requests, **settings))
    assert sorted(label for label, _ in outcomes) == sorted(letters)  # every one once
    return dict(outcomes)


def test_whatever_one_request_raises_is_its_own_problem() -> None:
    letters = "abcdefghjk"
    bad = {"c": ValueError("too long:\n shorten it"), "h": RuntimeError("can't allocate memory"), "j": KeyError("x")}
    outcomes = answer_letters(letters, bad)
    failed = {label: outcome.error for label, outcome in outcomes.items() if outcome.error is not None}
    assert failed == {"c": "too long: shorten it", "h": "RuntimeError: can't allocate memory", "j": "KeyError: 'x'"}
    assert all(outcomes[letter] == Outcome(letter, -0.5) for letter in letters if letter not in failed)


def test_what_is_not_finite_is_never_answered() -> None:
    outcomes = answer_letters("anbicsd?", {"c": float("nan"), "d": float("-inf")}, {"?": "?"})
    assert {label for label, outcome in outcomes.items() if outcome.error is None} == {"a", "b"}
    assert "features hold NaN" in outcomes["n"].error and "features hold NaN" in outcomes["i"].error
    assert "scores are no finite numbers" in outcomes["c"].error and "scores are no" in outcomes["d"].error
    assert outcomes["s"].error == "is silent" and "TextInputSequence" in outcomes["?"].error


def test_a_request_that_a_model_forgets_is_named() -> None:
    outcomes = answer_letters("abc", {"b": None})
    assert [outcomes[letter].error for letter in "abc"] == [None, "the model gave no answer", None]


def test_settings_that_no_request_survives_are_refused_where_that_is_asked_for() -> None:
    bad = {letter: ValueError("a tier that this processor lacks") for letter in "abcdef"}
    with pytest.raises(ValueError, match="a tier that this"):
        answer_letters("abcdef", bad, refuses=True)
    assert all(outcome.error.startswith("a tier") for outcome in answer_letters("abcdef", bad).values())
    late = {letter: ValueError("late") for letter in "jkl"}  # others have been answered
    assert answer_letters("abcdefgjkl", late, refuses=True)["j"].error == "late"


def test_settings_of_no_use_are_refused_before_the_first_request() -> None:
    class Unsettled(Scripted):
        def answer_many(self, pairs: Iterable, *, batch_size: int) -> Iterator:
            raise TypeError("num_beams is a dict")
            yield

    with pytest.raises(ValueError, match="the model cannot answer: TypeError: num_beams is a dict"):
        list(Listener(Unsettled({}), Letters(), "x").answer([Request(0, 0, None, torch.ones(1))]))


def test_a_lost_device_and_a_fault_of_the_asker_end_the_stream() -> None:
    with pytest.raises(torch.AcceleratorError):
        answer_letters("abc", {"b": torch.AcceleratorError("the device is lost")})

    def requests() -> Iterator[Request[str]]:
        yield Request("a", "a", None, torch.ones(1))
        raise KeyError("a fault in the caller")

    with pytest.raises(KeyError, match="a fault in the caller"):
        list(Listener(Scripted({}), Letters(), "scripted").answer(requests()))


def test_failures_are_named_while_the_stream_goes_on() -> None:
    read = []

    def requests() -> Iterator[Request[int]]:
        for number in range(10_000):
            read.append(number)
            yield Request(number, number, None, "is silent")

    stream = Listener(Scripted({}), Letters(), "scripted").answer(requests())
    assert next(stream)[0] == 0 and len(read) <= 64
    assert sum(1 for _ in stream) == 9_999


def test_a_question_that_fails_leaves_the_windows_other_questions(listener: Listener, tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 15.0)
    questions = ["What is the genre?", "Which instruments? " * 200]
    answers = list(in_order(Asking(listener, [record(song)], questions)))
    assert [one.error is None for one in answers] == [True, False, True, False]
    assert "shorten the question" in answers[1].error
    assert answers[1].describe_error().startswith("a.wav: 0:00–0:10: Which instruments? Which")
    assert len(answers[1].describe_error()) < 300


def test_silence_in_a_recording_is_one_failure_a_window(listener: Listener, tmp_path: Path) -> None:
    sound = np.sin(np.arange(16_000 * 25) / 9) * 0.5
    sound[: 160_000] = 1e-5
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    asking = Asking(listener, [record(tmp_path / "a.wav")], QUESTIONS)
    first, *others = in_order(asking)
    assert first.start_s == 0.0 and first.question is None and "is silent" in first.error
    assert [one.error for one in others] == [None] * 6
    assert asking.given == {one.id for one in (first, *others)} and asking.expected == asking.asked == 7


def test_whatever_reading_raises_is_that_files_problem(listener: Listener, tmp_path: Path) -> None:
    def read_windows(path: Path, rate: int, window_s: float) -> list[Window]:
        if path.name == "bad.wav":
            raise MemoryError("cannot allocate")
        return [Window(0.0, 10.0, np.full(160_000, 0.1, np.float32))]

    paths = [tmp_path / name for name in ("bad.wav", "good.wav")]
    answers = list(in_order(Asking(listener, map(record, paths), [None], read_windows=read_windows)))
    assert [one.error for one in answers] == ["cannot be read: MemoryError: cannot allocate", None]


def test_an_item_that_never_comes_is_missed() -> None:
    with pytest.raises(RuntimeError, match="item 1 never came"):
        list(in_order([(0, "a"), (2, "c")]))


def test_one_question_from_python_gives_one_answer(listener: Listener, tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 25.0)
    answer = listener.ask(song, "What is the genre?")
    per_window = listener.ask(str(song), "What is the genre?", windows=True)
    assert [(one.start_s, one.end_s) for one in per_window] == [(0.0, 10.0), (10.0, 20.0), (20.0, 25.0)]
    assert answer.prediction in {one.prediction for one in per_window}
    assert (answer.start_s, answer.end_s, answer.audio, answer.clip_id) == (0.0, 25.0, str(song), "a")
    assert answer.id not in {one.id for one in per_window}
    many = listener.ask(song, ["What is the genre?", None])
    assert [one.question for one in many] == ["What is the genre?", None] and many[0] == answer
    assert listener.ask(song).question is None and listener.ask(song, []) == []
    assert len(listener.ask(song, ["What is the genre?", None], windows=True)) == 6


def test_a_question_of_a_trained_type_is_decided_about_the_whole_and_the_others_are_written(tmp_path: Path) -> None:
    listener = Listener.load(save_tiny_decider(tmp_path / "tiny"), num_beams=1)
    song, silent = write_song(tmp_path / "a.wav", 25.0), tmp_path / "silent.wav"
    questions = ["Which instruments play?", "Are there drums?", None, "what is the genre"]
    free, drums, caption, genre = listener.ask(song, questions)
    assert [free, drums, caption, genre] == [listener.ask(song, question) for question in questions]
    assert [one.sure for one in (free, drums, caption, genre)] == [None, True, None, True]
    criteria = dict.fromkeys(["jazz", "rock", "piano"])
    typed = {"genre": {"type": "choice", "instructions": "What is the genre?", "criteria": criteria}}
    shares = listener.decide(song, typed)["genre"]["probabilities"]
    assert genre.probability == pytest.approx(max(shares.values()), abs=1e-4) and free.probability is None
    assert (genre.windows, genre.of, genre.heard, genre.score) == (3, 3, [[0.0, 25.0]], None)
    (first, *_) = listener.ask(song, questions[1], windows=True)
    assert type(first) is Answer and first.prediction  # as the model words it
    soundfile.write(silent, np.zeros(80_000), 8_000)
    with pytest.raises(AudioError, match="silent"):
        listener.ask(silent, questions[1])
    noise = np.random.default_rng(1).normal(size=160_000) / 9
    nothing = listener.ask(noise, questions[1], sampling_rate=16_000)
    assert nothing.prediction.startswith("No music heard") and not nothing.sure and nothing.heard == []


def test_what_cannot_be_decided_is_named_and_the_other_questions_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener.load(save_tiny_decider(tmp_path / "tiny"), num_beams=1)
    song = write_song(tmp_path / "a.wav", 12.0)
    monkeypatch.setattr(type(listener.model), "score_options", lambda *_, **__: {}["lost"])
    questions = ["What is the genre?", "Which instruments play?"]
    asking = Asking(listener, [record(song)], questions, typed=TypedQuestions(listener, questions))
    genre, *free = in_order(asking)
    assert genre.error and "lost" in genre.error and len(free) == 2 and all(one.prediction for one in free)
    with pytest.raises(ValueError, match="lost"):
        listener.ask(song, questions)


def test_the_answer_about_the_whole_is_that_of_most_windows() -> None:
    def given(text: str | None, score: float | None, start_s: float) -> Answer:
        return Answer("i", "a", "a.wav", start_s, start_s + 10, "q", "m", {}, prediction=text, score=score)

    answers = [given("jazz", -0.9, 0.0), given("rock", -0.1, 10.0), given("jazz", -0.5, 20.0)]
    whole = pool_track(answers)
    assert (whole.prediction, whole.score, whole.start_s, whole.end_s) == ("jazz", -0.5, 0.0, 30.0)
    assert (whole.heard, whole.others) == ([[0.0, 10.0], [20.0, 30.0]], {"rock": 1})
    assert pool_track(answers[:2]).prediction == "rock"


def test_sound_from_python_may_be_bytes_a_waveform_or_a_url(listener: Listener, tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 12.0, 16_000)
    samples, rate = soundfile.read(song, dtype="float32")
    expected = [one.prediction for one in listener.ask(song, QUESTIONS)]
    stereo = samples[:, None].repeat(2, axis=1)
    with serve(tmp_path) as address:
        others = (song.read_bytes(), samples, stereo, stereo.T, f"{address}/a.wav")
        for audio in others:
            sampling_rate = rate if isinstance(audio, np.ndarray) else None
            answers = listener.ask(audio, QUESTIONS, sampling_rate=sampling_rate)
            assert [one.prediction for one in answers] == expected
        with pytest.raises(AudioError, match=r"absent\.wav: cannot be fetched: it does not exist \(404\)"):
            listener.ask(f"{address}/absent.wav")


class HalfHandler(SimpleHTTPRequestHandler):
    """Announces a whole file, and sends half of it."""

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:
        """Send the first half."""
        whole = source.read()
        outputfile.write(whole[: len(whole) // 2])


def test_a_url_whose_body_is_cut_short_is_refused(listener: Listener, tmp_path: Path) -> None:
    sound = write_song(tmp_path / "a.wav", 12.0, 16_000).read_bytes()
    header = sound[:40] + b"\xff\xff\xff\xff"  # as written into a pipe: the file itself does not tell its length
    (tmp_path / "a.wav").write_bytes(header + sound[44:])
    with serve(tmp_path, HalfHandler) as address, pytest.raises(AudioError, match="its bytes did not all arrive"):
        listener.ask(f"{address}/a.wav", QUESTIONS)


@contextmanager
def serve(folder: Path, handler: type[SimpleHTTPRequestHandler] = SimpleHTTPRequestHandler) -> Iterator[str]:
    """The files of a folder on a local port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("audio", "rate", "reason"),
    [
        (np.zeros(160_000, np.float32), 16_000, "is silent"),
        (np.ones(1_000, np.float32), 16_000, "lasts"),
        (np.full(160_000, np.nan, np.float32), 16_000, "NaN"),
        (np.ones(160_000, np.int16), 16_000, "is int16"),
        (np.ones((2, 2, 2), np.float32), 16_000, "shape"),
        (np.ones((0, 2), np.float32), 16_000, "shape"),
        (np.ones(160_000, np.float32), None, "sampling_rate="),
        (np.ones(160_000, np.float32), 0, "sampling_rate="),
        (b"", None, "is empty"),
        (b"no music", None, "is not sound"),
        ("absent.wav", None, "does not exist"),
    ],
)
def test_what_cannot_be_heard_from_python_is_an_error(listener: Listener, audio, rate, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        listener.ask(audio, "What is the genre?", sampling_rate=rate)


def test_channels_that_cancel_each_other_are_heard_by_the_loudest(listener: Listener) -> None:
    wave = (np.sin(np.arange(160_000) / 9) * 0.5).astype(np.float32)
    sounds = (np.stack([wave, -wave], axis=1), wave)
    both, alone = (listener.ask(sound, QUESTIONS, sampling_rate=16_000) for sound in sounds)
    assert [one.prediction for one in both] == [one.prediction for one in alone]


def test_a_model_is_loaded_in_one_call(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    answer = descant.load(folder, num_beams=1).ask(write_song(tmp_path / "a.wav", 3.0), "What is the genre?")
    assert answer.error is None and answer.model == str(folder) and answer.generation["num_beams"] == 1
    with pytest.raises(ModelFolderError):
        descant.load(tmp_path)

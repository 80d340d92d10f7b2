"""The pipeline: every form of audio, lists, generators and datasets, batches, and checkpoints that carry it."""

import functools
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from forked_python import run_forked
from tiny import save_tiny_model, write_song
from transformers import Pipeline, pipeline

from descant.answering.listener import Listener
from descant.data.audio import AudioError, load_audio, windows

QUESTION = "What is the genre?"
TASK = "music-question-answering"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", 12.0, 16_000)


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Pipeline:
    return pipeline(TASK, model=str(folder), windows=True)


@pytest.fixture(scope="module")
def expected(pipe: Pipeline, song: Path) -> list[dict[str, object]]:
    """What the model says to each window alone."""
    answers = []
    for window in windows(load_audio(song)):
        inputs = pipe.processor(audio=[window.samples], text=[QUESTION], sampling_rate=16_000, return_tensors="pt")
        (text,) = pipe.processor.batch_decode(pipe.model.generate(**inputs), skip_special_tokens=True)
        place = {"start_s": window.start_s, "end_s": window.end_s, "question": QUESTION}
        answers.append({**place, "answer": text.strip()})
    return answers


class Decoder:
    """What torchcodec's AudioDecoder gives, without its libraries."""

    def __init__(self, song: Path) -> None:
        self.song = song

    def get_all_samples(self) -> SimpleNamespace:
        samples, rate = soundfile.read(self.song, dtype="float32", always_2d=True)
        return SimpleNamespace(data=torch.from_numpy(samples.T), sample_rate=rate)


FORMS: dict[str, Callable[[Path], object]] = {
    "text path": str,
    "path": Path,
    "bytes": Path.read_bytes,
    "array": lambda song: soundfile.read(song, dtype="float32")[0],
    "float64 array": lambda song: soundfile.read(song)[0],
    "stereo array": lambda song: np.stack([soundfile.read(song, dtype="float32")[0]] * 2),
    "tensor": lambda song: torch.from_numpy(soundfile.read(song, dtype="float32")[0]),
    "dict with array": lambda song: dict(zip(("array", "sampling_rate"), soundfile.read(song), strict=True)),
    "dict with raw": lambda song: dict(zip(("raw", "sampling_rate"), soundfile.read(song), strict=True)),
    "decoder": Decoder,
    "decoded row": lambda song: {"audio": Decoder(song), "clip_id": "song"},
    "undecoded column": lambda song: {"bytes": song.read_bytes(), "path": "song.wav"},
    "dict with path": lambda song: {"bytes": None, "path": str(song)},
    "dataset row": lambda song: {"audio": {"path": str(song), "bytes": None}, "clip_id": "song"},
}


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_track_is_answered_about_as_the_listener_does(
    pipe: Pipeline, folder: Path, tmp_path: Path, batch_size: int
) -> None:
    song, asked = write_song(tmp_path / "song.wav", 33.0, 16_000), [QUESTION, None, "Which instruments play?"]
    waveform = soundfile.read(song, dtype="float32")[0]
    waveform[160_000:320_000] = 0  # a silent window does not count
    soundfile.write(song, waveform, 16_000)
    expected = Listener.load(str(folder)).ask(song, asked)
    answers = pipe(song, question=asked, windows=False, batch_size=batch_size)
    assert [one["answer"] for one in answers] == [one.prediction for one in expected]
    for one, track in zip(answers, expected, strict=True):
        assert (one["start_s"], one["end_s"], one["question"]) == (0.0, 33.0, track.question)
        assert (one["windows"], one["of"], one["heard"]) == (track.windows, 3, track.heard)
        assert one["confidence"] == pytest.approx(track.confidence, abs=1e-3) and one["others"] == track.others


def test_a_pipeline_answers_about_the_track_unless_windows_are_asked_for(folder: Path, song: Path) -> None:
    pipe = pipeline(TASK, model=str(folder))
    assert len(pipe(song, question=QUESTION, return_dict_in_generate=True)) == 1
    assert [one["end_s"] for one in pipe(song, question=QUESTION, windows=True)] == [10.0, 12.0]
    assert pipe(song, question=QUESTION, hear=1)[0]["of"] == 1
    with pytest.raises(ValueError, match="num_return_sequences"):
        pipe(song, question=QUESTION, num_return_sequences=2, num_beams=2)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_audio_gives_the_same_answers(
    pipe: Pipeline, song: Path, form: str, expected: list[dict[str, object]]
) -> None:
    assert pipe(FORMS[form](song), question=QUESTION) == expected


def test_other_sampling_rates_are_resampled(pipe: Pipeline, tmp_path: Path) -> None:
    song = write_song(tmp_path / "song.flac", 12.0, 48_000)
    array, rate = soundfile.read(song, dtype="float32")
    answers = pipe({"array": array, "sampling_rate": rate}, question=QUESTION)
    assert [one["end_s"] for one in answers] == [10.0, 12.0] and answers == pipe(song, question=QUESTION)


@pytest.fixture
def url(song: Path) -> Iterator[str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=song.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{song.name}"
        server.shutdown()


def test_a_url_is_fetched(pipe: Pipeline, url: str, expected: list[dict[str, object]]) -> None:
    assert pipe(url, question=QUESTION) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_lists_generators_and_datasets_are_answered_in_order(
    pipe: Pipeline, song: Path, tmp_path: Path, batch_size: int, expected: list[dict[str, object]]
) -> None:
    import datasets
    from transformers.pipelines.pt_utils import KeyDataset

    other = write_song(tmp_path / "other.wav", 4.0, 16_000, 300.0)
    both = [expected, pipe(other, question=QUESTION)]
    settings = {"question": QUESTION, "batch_size": batch_size}
    table = datasets.Dataset.from_list([{"audio": {"path": str(path), "bytes": None}} for path in (song, other)])
    assert pipe([song, other], **settings) == both
    assert pipe((song, other), **settings) == both
    assert list(pipe((path for path in (song, other)), **settings)) == both
    assert list(pipe(iter([song, other]), **settings)) == both
    assert list(pipe(table, **settings)) == both
    assert list(pipe(table.to_iterable_dataset(), **settings)) == both
    assert list(pipe(KeyDataset(table, "audio"), **settings)) == both


@pytest.mark.parametrize("batch_size", [1, 5])
def test_questions_are_asked_of_every_window_or_come_with_the_row(
    pipe: Pipeline, song: Path, batch_size: int, expected: list[dict[str, object]]
) -> None:
    two = pipe(song, question=[QUESTION, "Which instruments play?"], batch_size=batch_size)
    assert [one["question"] for one in two] == [QUESTION, "Which instruments play?"] * 2
    assert two[::2] == expected
    rows = [{"audio": song, "question": QUESTION}, {"audio": song, "question": None}]
    own, caption = pipe(rows, question="Why?", batch_size=batch_size)
    assert own == expected and [one["question"] for one in caption] == [None, None]


def test_settings_reach_generate(pipe: Pipeline, song: Path, folder: Path) -> None:
    inputs = pipe.processor(audio=[load_audio(song)[:160_000]], text=[QUESTION], sampling_rate=16_000,
                            return_tensors="pt")  # fmt: skip
    tokens = pipe.model.generate(**inputs, num_beams=4, max_length=5)
    (text,) = pipe.processor.batch_decode(tokens, skip_special_tokens=True)
    assert pipe(song, question=QUESTION, num_beams=4, max_length=5)[0]["answer"] == text.strip()
    fixed = pipeline(TASK, model=str(folder), num_beams=4, max_length=5, windows=True)
    assert fixed(song, question=QUESTION)[0]["answer"] == text.strip()


def test_the_questions_about_a_window_share_its_convolutions(pipe: Pipeline, song: Path) -> None:
    heard = []
    hook = pipe.model.audio_encoder.register_forward_pre_hook(lambda module, args: heard.append(len(args[0])))
    pipe(song, question=[QUESTION, "Why?", "Who?"], batch_size=6)
    hook.remove()
    assert heard == [2]


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        ("absent.wav", "absent.wav: no such file"),
        (b"no music", "not sound"),
        (np.zeros(0, np.float32), "no samples"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.full(16_000, 3e38, np.float32), "within ±1"),
        (np.ones(100, np.float32), "lasts 0.0063 s"),
        (np.zeros(16_000, np.float32), "silent"),
        (np.zeros(100, np.int16), "int16"),
        ({"array": np.zeros(100)}, "sampling_rate"),
        ({"sound": 1}, "no array"),
        ([1, 2, 3], "give a path"),
    ],
)
def test_bad_audio_is_told(pipe: Pipeline, audio: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pipe(audio, question=QUESTION)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"array": np.full(11, 0.5, np.float32), "sampling_rate": 384_000}, "lasts"),  # nothing is left at 16 kHz
        ({"array": np.full(20, 0.5, np.float32), "sampling_rate": 2_147_483_647}, "lasts"),
        ({"audio": np.full(16_000, 0.5, np.float32), "question": []}, "empty list of questions"),
    ],
    ids=["384 kHz", "2 GHz", "no question"],
)
def test_a_recording_without_windows_ends_a_list_with_its_name(
    pipe: Pipeline, song: Path, bad: dict, said: str, batch_size: int
) -> None:
    with pytest.raises(ValueError, match=said):
        pipe([song, bad, song], question=QUESTION, batch_size=batch_size)
    with pytest.raises(ValueError, match=said):
        pipe(bad, question=[] if "array" not in bad else QUESTION)
    answers = iter(pipe((audio for audio in (song, bad, song)), question=QUESTION))
    assert len(next(answers)) == 2
    with pytest.raises(ValueError, match=said):
        next(answers)


def test_an_empty_list_has_no_answers(pipe: Pipeline) -> None:
    assert pipe([], question=QUESTION) == []


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"return_dict_in_generate": True, "output_scores": True}])
def test_each_question_has_as_many_answers_as_are_asked_for(
    pipe: Pipeline, song: Path, batch_size: int, settings: dict
) -> None:
    count = {"num_return_sequences": 2, "num_beams": 3, **settings}
    two = [QUESTION, "Which instruments play?"]
    answers = pipe(song, question=two, batch_size=batch_size, **count)
    assert [one["question"] for one in answers] == [QUESTION, QUESTION, two[1], two[1]] * 2
    best = pipe(song, question=two, num_beams=3)
    assert [one["answer"] for one in answers[::2]] == [one["answer"] for one in best]
    assert answers[1::2] != best
    inputs = pipe.processor(audio=[load_audio(song)[:160_000]], text=[QUESTION], sampling_rate=16_000,
                            return_tensors="pt")  # fmt: skip
    result = pipe.model.generate(**inputs, **count)
    texts = pipe.processor.batch_decode(result.sequences if settings else result, skip_special_tokens=True)
    assert [one["answer"] for one in answers[:2]] == [text.strip() for text in texts]


def test_a_dict_of_outputs_gives_the_answers(pipe: Pipeline, song: Path, expected: list[dict[str, object]]) -> None:
    assert pipe(song, question=QUESTION, return_dict_in_generate=True) == expected


def test_a_recording_in_which_nothing_can_be_heard_is_named_among_others(pipe: Pipeline, song: Path) -> None:
    short = song.parent / "short.wav"
    soundfile.write(short, np.ones(1), 384_000)
    with pytest.raises(ValueError, match="short.wav: lasts 2.6e-06 s"):
        pipe([song, short, song], question=QUESTION)
    rows = [{"audio": song, "question": QUESTION}, {"audio": song, "question": []}]
    with pytest.raises(ValueError, match="empty list of questions"):
        pipe(rows)


@pytest.mark.parametrize("bad", ["cut.wav", "cut.flac", "playlist.m4a", "header.wav"])
def test_files_are_judged_as_by_commands(pipe: Pipeline, song: Path, tmp_path: Path, bad: str) -> None:
    path = tmp_path / bad
    write_song(path if bad.startswith("cut") else tmp_path / "other.wav", 12.0, 44_100)
    if bad.startswith("cut"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    elif bad == "header.wav":
        soundfile.write(path, np.zeros(0), 44_100)
    else:
        path.write_text(f"#EXTM3U\n{song}\n")
    with pytest.raises(AudioError) as refused:
        load_audio(path)
    for given in (path, path.read_bytes(), {"path": str(path), "bytes": None}):
        with pytest.raises(ValueError, match=re.escape(refused.value.reason)):
            pipe(given, question=QUESTION)


def test_silent_windows_and_a_last_one_of_no_length_are_left_out(
    pipe: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    waveform = np.sin(np.arange(303_000) / 9).astype(np.float32)
    waveform[160_000:] = 0
    assert [one["end_s"] for one in pipe(waveform, question=QUESTION)] == [10.0]
    assert "is silent in 1 windows, which are left out: 10–18.9375 s" in caplog.text
    waveform[160_000:320_000] = 0.5
    assert [one["end_s"] for one in pipe(waveform[:167_000], question=QUESTION)] == [10.0]


def test_channels_out_of_phase_are_heard_as_the_louder_one(
    pipe: Pipeline, song: Path, tmp_path: Path, expected: list[dict[str, object]]
) -> None:
    mono, rate = soundfile.read(song, dtype="float32")
    stereo = np.stack([0.9 * -mono, mono])
    soundfile.write(tmp_path / "stereo.wav", stereo.T, rate, subtype="FLOAT")
    assert pipe(stereo, question=QUESTION) == pipe(tmp_path / "stereo.wav", question=QUESTION) == expected


def test_missing_packages_are_told(pipe: Pipeline, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["descant.models.lp_music_caps.sound_file"], "av", None)
    with pytest.raises(ImportError, match="pip install av soxr"):
        pipe(song, question=QUESTION)


WITHOUT_DESCANT = """
import json, sys
sys.modules["descant"] = None
from transformers import pipeline
pipe = pipeline({task}model=sys.argv[1], trust_remote_code=True)
print(json.dumps(pipe(sys.argv[2], question="What is the genre?", windows=True)))
assert not any(name.startswith("descant.") for name in sys.modules)
if len(sys.argv) > 3:
    pipe.save_pretrained(sys.argv[3])
"""


def answer_without_descant(tmp_path: Path, *arguments: Path, task: str = "") -> list[dict[str, object]]:
    done = run_forked("-c", WITHOUT_DESCANT.format(task=task), *arguments, cwd=tmp_path, PATH="")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_checkpoint_carries_its_pipeline_and_passes_it_on(
    folder: Path, song: Path, tmp_path: Path, expected: list[dict[str, object]]
) -> None:
    assert answer_without_descant(tmp_path, folder, song, tmp_path / "saved", task=f"{TASK!r}, ") == expected
    assert answer_without_descant(tmp_path, tmp_path / "saved", song, task=f"{TASK!r}, ") == expected

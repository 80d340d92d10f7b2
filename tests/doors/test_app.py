"""The page, its API and its tools without a network: answers as `descant ask` gives them, refusals, escaping."""

import asyncio
import base64
import inspect
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hub import LocalHub
from tiny import climb, save_tiny_decider, write_song

from descant import cli
from descant.answering.evidence import Evidence, Span
from descant.answering.listener import Listener
from descant.data.audio import AudioError
from descant.doors import drawing
from descant.doors.answering_queue import Job
from descant.doors.page_gate import KEPT_S, LEAST_BYTES, POLICY, SAFE_S, PageGate, Uploads, is_let_in
from descant.doors.requests import Limits, Refusal
from descant.doors.space import compose_space
from descant.doors.studio import KEPT, Studio

FREE, TYPED = "Which instruments play?", "What is the genre?"
TOKEN = "a-token-of-24-characters"
EVIL = "<img src=x onerror=alert(1)> **bold** [a](javascript:b)"
LIMITS = Limits(bytes=2**21, sound_s=40.0, wait_s=60.0, stall_s=0.05, requests=3)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(Listener.load(save_tiny_decider(tmp_path_factory.mktemp("models") / "tiny")), "tiny", LIMITS)
    yield studio
    studio.close()
    studio.queue.thread.join(120)
    assert not studio.queue.is_alive()


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_song(tmp_path_factory.mktemp("songs") / "song.wav", 25.0, rate=8_000))


@pytest.fixture(autouse=True)
def _unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what librosa measures, which takes seconds."""
    monkeypatch.setattr("descant.answering.description.measure", lambda _: None)


# Answers


def test_answers_are_those_of_ask_decide_and_describe(studio: Studio, song: str) -> None:
    free, listener = studio.ask(song, f"  {FREE} "), studio.listener
    said = listener.ask(song, FREE)
    assert (free.question, free.answer, free.heard) == (FREE, said.prediction, said.heard)
    assert (free.windows, free.of, free.sure, free.probabilities) == (said.windows, said.of, None, {})
    assert studio.ask(song, "").answer == listener.ask(song).prediction
    typed, decided = studio.ask(song, TYPED), listener.ask(song, TYPED)
    shown = {"text": typed.answer, "probability": typed.probability, "sure": typed.sure}
    assert decided.decided == shown | {"probabilities": typed.probabilities}
    assert (decided.prediction, decided.heard, decided.of) == (typed.answer, typed.heard, 3)
    assert max(typed.probabilities.values()) == pytest.approx(typed.probability, abs=1e-4)
    mood = {"mood": {"type": "choice", "instructions": "mood", "criteria": {"happy": None, "sad": None}}}
    chosen, expected = studio.decide(song, "mood", [" happy", "sad", "sad", ""]), listener.decide(song, mood)["mood"]
    assert (chosen.option, chosen.probabilities) == (expected["choice"], expected["probabilities"])
    drums = studio.decide(song, "Are there drums?")
    assert drums.option in ("yes", "no") and sum(drums.probabilities.values()) == pytest.approx(1, abs=1e-3)
    described = studio.describe(song)
    assert vars(described) | {"audio": song} == listener.describe(song)
    assert str(described).startswith('{"audio": "audio", ') and str(drums).startswith('{"question": "Are there dr')


def test_a_track_is_read_once_and_the_last_few_are_kept(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    hear = studio._read.__globals__["hear"]
    monkeypatch.setitem(studio._read.__globals__, "hear", lambda *given: read.append(len(given[0])) or hear(*given))
    songs = [str(write_song(tmp_path / f"{number}.wav", 1.0, rate=8_000)) for number in range(KEPT + 1)]
    for song in (songs[0], songs[0], *songs[1:], songs[-1]):
        studio._read(song)
    assert len(read) == KEPT + 1 and len(studio.kept) == KEPT
    studio._read(songs[0])  # was let go
    assert len(read) == KEPT + 2


def test_work_that_fails_leaves_what_waits_with_it(studio: Studio, song: str) -> None:
    jobs = [Job((), work=lambda: {}["nothing"]), Job(studio._read(song), FREE)]
    studio.queue._answer(jobs)
    assert isinstance(jobs[0].future.exception(0), RuntimeError) and jobs[1].future.result(0).text


def test_what_the_page_shows_of_a_track(studio: Studio, song: str) -> None:
    track = studio.draw(song)
    assert track.duration_s == pytest.approx(25.0) and track.heard == [[0.0, 10.0], [10.0, 20.0], [20.0, 25.0]]
    assert track.picture.startswith(b"\x89PNG")
    shown = drawing.show_track(track)
    assert re.findall(r'data-start="([\d.]+)" data-end="([\d.]+)"', shown) == [
        ("0.000", "10.000"), ("10.000", "20.000"), ("20.000", "25.000"),
    ]  # fmt: skip
    assert "left:80.00%;width:20.00%" in shown and "All of it is heard, in 3 windows." in shown
    assert "2 windows are heard, spread over the track." in drawing.show_track(replace(track, heard=track.heard[:2]))


# Refusals


def refuse(call: Any, *arguments: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as raised:
        call(*arguments)
    return raised.value.status, str(raised.value)


def test_junk_silence_and_what_is_too_long_get_the_sentence_of_ask(studio: Studio, tmp_path: Path) -> None:
    junk, silent, long, gone = (str(tmp_path / name) for name in ("<b>.mp3", "silent.wav", "long.wav", "gone.wav"))
    Path(junk).write_bytes(b"junk" * 1_000)
    soundfile.write(silent, np.zeros(8_000), 8_000)
    soundfile.write(long, climb(41.0, 8_000, 110.0), 8_000)
    for path in (junk, silent):
        with pytest.raises(AudioError) as raised:
            studio.listener.ask(path, FREE)
        for call in (studio.draw, studio.describe, lambda one: studio.ask(one, FREE)):
            assert refuse(call, path) == (422, f"audio: {raised.value.reason}")
    assert refuse(studio.draw, long) == (422, "audio: lasts longer than 40 s, the longest that is heard here")
    assert refuse(studio.draw, gone) == (400, "audio: is not there any more: give it again")
    Path(junk).write_bytes(b"j" * (LIMITS.bytes + 1))
    assert refuse(studio.draw, junk) == (413, "audio: has more than 2097152 bytes, the most that are read here")


def test_what_cannot_be_asked_is_refused(studio: Studio, song: str) -> None:
    assert refuse(studio.ask, song, "why " * 3_000) == (400, "the question is longer than 10000 characters")
    assert refuse(studio.decide, song, FREE, ["a", "b" * 1_001])[1].endswith("has over 1000 characters")
    assert refuse(studio.decide, song, " ", ["a", "b"]) == (400, "there is no question: write one")
    assert refuse(studio.decide, song, "mood", ["sad"])[1].startswith("one option is no choice")


def test_too_many_at_a_time_and_no_answer_in_time_are_refused(
    studio: Studio, song: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with studio._place(), studio._place(), studio._place():
        assert refuse(studio.ask, song, FREE) == (429, "too many requests at a time: try again later")
    never: Future[Any] = Future()
    monkeypatch.setattr(studio.queue, "ask", lambda *_: never)
    monkeypatch.setattr(studio, "limits", replace(LIMITS, wait_s=0.01))
    assert refuse(studio.ask, song, FREE) == (503, "there was no answer within 0.01 s: try again later")
    assert never.cancelled()
    monkeypatch.setattr(studio.queue, "ask", lambda *_: 1 / 0)
    assert refuse(studio.ask, song, FREE) == (500, "the model failed at this request")
    for _ in range(LIMITS.requests):  # every place was given back
        assert studio.inside.acquire(blocking=False)
    studio.inside.release(LIMITS.requests)


# Nothing unescaped


def test_nothing_that_is_given_becomes_html(studio: Studio, song: str) -> None:
    decided = replace(studio.decide(song, "mood", [EVIL, "other"]), option=EVIL, reason=None)
    shown = drawing.show_conversation([
        drawing.show_turn(EVIL, drawing.show_decided(decided)),
        drawing.show_turn(EVIL, drawing.show_answered(replace(studio.ask(song, FREE), answer=EVIL))),
        drawing.show_turn("", [drawing.show_refusal(EVIL)]),
    ])  # fmt: skip
    assert "<img" not in shown and shown.count("&lt;img") >= 6 and "Describe it in a sentence." in shown
    described = vars(studio.describe(song))
    genre = described["decisions"]["genre"] | {"sure": True, "contradicts": [EVIL]}
    evil = described | {"decisions": described["decisions"] | {"genre": genre}, "caption": {"text": EVIL}}
    shown = drawing.show_description(evil)
    assert "<img" not in shown and shown.count("&lt;img") >= 2


def test_bars_stand_in_the_order_of_probability_and_the_rest_is_summed_up() -> None:
    shown = drawing.bars({"a": 0.1, "b": 0.5, "c": 0.2, "d": 0.1, "e": 0.06, "f": 0.04})
    assert re.findall(r'title="([^"]+)"', shown) == ["b", "c", "a", "d", "2 others"]
    assert re.findall(r"(\d+) %</em>", shown) == ["50", "20", "10", "10", "10"] and shown.count("dc-best") == 1


def test_time_is_written_at_a_few_places() -> None:
    assert drawing.place_ticks(10.0) == [0, 2, 4, 6, 8] and len(drawing.place_ticks(0.5)) == 1
    assert max(len(drawing.place_ticks(seconds)) for seconds in range(1, 4000, 7)) <= 9
    assert drawing.clock(65.2) == "1:05" and drawing.percent(1.0, 0.0) == "0%"


def test_a_sound_without_music_is_said_to_have_none() -> None:
    answer = {"type": "noul", "noul": 0.5, "sure": False, "reason": "silence", "heard": []}
    decisions = {"genre": answer, "instruments": {"bass": answer}}
    shown = drawing.show_description({"decisions": decisions, "caption": None, "measured": None})
    assert "No music heard (silence)." in shown and "dc-bar" not in shown


def test_the_script_and_the_style_ask_no_other_server() -> None:
    for name in ("app.js", "app.css"):
        assert not re.search(r"""["'(]//|\w://|@import""", files("descant.doors").joinpath(name).read_text())


# The gate


class Gated:
    """An application behind the gate, which answers with the number of bytes that it was sent."""

    def __init__(
        self, token: str | None = None, names: list[str] | None = None, folder: Path = Path("no folder")
    ) -> None:
        self.gate = PageGate(self.answer, LIMITS, token, names, Uploads(folder, 2 * LIMITS.bytes))

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, scope["method"] == "POST"
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    def send(self, path: str, method: str = "GET", pieces: list[bytes] | None = None, **headers: str) -> Any:
        found: list[Any] = []
        waiting = list(pieces or [])

        async def receive() -> Any:
            if not waiting:
                await asyncio.sleep(5)
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": body != b""}

        async def send(message: Any) -> None:
            found.append(message)

        given = {"host": "localhost:1"} | headers
        pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in given.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        asyncio.run(self.gate(scope, receive, send))
        return found[0]["status"], dict(found[0]["headers"]), b"".join(one["body"] for one in found[1:])


def test_only_what_the_page_needs_is_there_and_nothing_else_may_be_loaded() -> None:
    gated = Gated()
    for path in ("/", "/config", "/assets/x.js", "/gradio_api/file=/tmp/a b.wav", "/gradio_api/mcp/"):
        status, headers, _ = gated.send(path)
        assert status == 200 and headers[b"content-security-policy"] == POLICY.encode()
    for path in ("/gradio_api/proxy=http://x", "/monitoring", "/gradio_api/vibe-code/", "/dev/reload", "/x"):
        assert gated.send(path)[0] == 404
    assert gated.send("/config", "POST")[0] == 404 and gated.send("/", "PUT")[0] == 404
    assert "http" not in POLICY and "*" not in POLICY


def test_other_hosts_and_pages_of_other_hosts_are_refused() -> None:
    gated = Gated(names=["localhost"])
    assert gated.send("/", host="evil.example")[0] == 421
    assert gated.send("/", origin="http://localhost:1")[0] == 200
    assert gated.send("/", origin="http://localhost:2")[0] == 403
    assert gated.send("/", origin="null")[0] == 403 and gated.send("/", origin="http://[")[0] == 403
    assert Gated().send("/", host="any.example", origin="https://other.example")[0] == 200  # a Space, for everybody


def test_the_token_is_a_bearer_or_a_password() -> None:
    gated = Gated(TOKEN)
    status, headers, _ = gated.send("/")
    assert status == 401 and headers[b"www-authenticate"].startswith(b"Basic")
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    for header, status in ((f"Bearer {TOKEN}", 200), (f"Basic {basic}", 200), (f"Bearer {TOKEN}x", 401), (basic, 401)):
        assert gated.send("/", authorization=header)[0] == status
    assert not is_let_in("Basic ====", TOKEN) and not is_let_in("Basic " + base64.b64encode(b"\xff").decode(), TOKEN)


def test_large_and_stalled_bodies_and_too_many_are_refused() -> None:
    gated, upload = Gated(), "/gradio_api/upload"
    assert gated.send(upload, "POST", [b"ab", b"c", b""])[2] == b"3"
    assert gated.send(upload, "POST", [], content_length=str(LIMITS.bytes + 1))[0] == 413
    assert gated.send(upload, "POST", [b"x" * LIMITS.bytes, b"x", b""])[0] == 413
    assert gated.send(upload, "POST", [b"ab"])[0] == 408
    gated.gate.inside = LIMITS.requests
    status, headers, _ = gated.send(upload, "POST", [b""])
    assert status == 429 and headers[b"retry-after"]


def test_uploads_are_bounded_in_total_and_the_oldest_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated, upload, began = Gated(folder=tmp_path), "/gradio_api/upload", time.time()

    def write(name: str, size: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
        return path

    def send(after_s: float, **headers: str) -> Any:
        monkeypatch.setattr("descant.doors.page_gate.time.time", lambda: began + after_s)
        return gated.send(upload, "POST", [b"abc", b""], **headers)

    first, second = (write(f"{number}/song.wav", LIMITS.bytes - 10) for number in (1, 2))
    empty = write("tmp0", 0)
    assert gated.gate.uploads.clear(7) == 2 * LIMITS.bytes - 13 + LEAST_BYTES
    empty.unlink()
    assert send(SAFE_S + 5, content_length="3")[2] == b"3" and first.exists() and second.exists()
    assert send(SAFE_S + 5)[2] == b"3"  # of a length that nobody knows
    assert not first.parent.exists() and second.exists()
    third = write("tmp3", LIMITS.bytes + 10)
    status, headers, body = send(0, content_length="3")  # what is so new may still be written to
    assert status == 507 and headers[b"retry-after"] and b"no room for more recordings" in body
    assert second.exists() and third.exists() and gated.gate.uploads.coming == 0
    assert send(KEPT_S + 5, content_length="3")[0] == 200 and not second.exists() and not third.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 is reached by others: set DESCANT_TOKEN, or give --token_file"),
        (["--public", "--token_file", "x"], "--public asks for no token: leave --token_file out"),
        (["no/such/model-anywhere"], "no/such/model-anywhere"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_work(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DESCANT_TOKEN", raising=False)
    assert cli.main(["app", *arguments]) == 2
    assert sentence in capsys.readouterr().err


# The Space


def test_a_space_holds_three_files_which_show_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compose_space("tester/2024", "box")["README.md"].splitlines()[1] == 'title: "2024"'  # no number to YAML
    assert cli.main(["space", "tester/listens", "you/answers", "--output", str(tmp_path / "space")]) == 0
    assert "app.py shows it here" in capsys.readouterr().out
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "space").iterdir()}
    assert set(found) == {"app.py", "requirements.txt", "README.md"} and found["requirements.txt"] == "descant[app]\n"
    settings = yaml.safe_load(found["README.md"].split("---")[1])
    assert (settings["sdk"], settings["app_file"], settings["models"]) == ("gradio", "app.py", ["you/answers"])
    assert settings["title"] == "listens" and len(settings["short_description"]) <= 60
    asked: list[list[str]] = []
    names = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as ended:
        patched.setattr(cli, "main", lambda argv: asked.append(argv) or 0)
        patched.delenv("GRADIO_SERVER_PORT", raising=False)
        exec(compile(found["app.py"], "app.py", "exec"), names)
    assert ended.value.code == 0
    args = cli.build_parser().parse_args(*asked)
    assert (args.model, args.host, args.port, args.public) == ("you/answers", "0.0.0.0", 7860, True)


def test_a_space_is_pushed_in_one_commit_and_again(local_hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["space", "tester/listens"]) == 0
    assert capsys.readouterr().out.strip() == f"{local_hub.url}/spaces/tester/listens"
    assert local_hub.commits("tester/listens", "space")[1:] == ["Listen with box"]
    assert "'box'" in local_hub.files("tester/listens", "space")["app.py"].decode()
    local_hub.api().create_repo("tester/answers")
    assert cli.main(["space", "tester/listens", "tester/answers"]) == 0
    files = local_hub.files("tester/listens", "space")
    assert "'tester/answers'" in files["app.py"].decode() and b"models: [tester/answers]" in files["README.md"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tester/listens", "."], "is a folder of this machine, which a Space cannot read"),
        (["tester/listens", "no model\nimport os"], "is no id on the Hub: give name/model"),
        (["two/many/names"], "two/many/names is no id on the Hub: give name/space"),
        (["tester/listens", "tester/nothing"], "tester/nothing is not on"),
        (["tester/listens", "--output", "x", "--private"], "--private is of a Space that is pushed"),
    ],
)
def test_a_space_that_could_not_run_is_refused(
    arguments: list[str], sentence: str, local_hub: LocalHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["space", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not [one for one in local_hub.requests if one.startswith("POST")]


# With gradio


@pytest.fixture(scope="module")
def app() -> Any:
    pytest.importorskip("gradio", reason="the page takes pip install descant[app]")
    pytest.importorskip("mcp", reason="the page takes pip install descant[app]")
    from descant.doors import app

    return app


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


def test_only_uploaded_files_are_read(app: Any, uploads: Path, song: str) -> None:
    inside = uploads / "a.wav"
    inside.write_bytes(b"")
    assert app.find_upload({"path": str(inside)}) == str(inside)
    for other in (song, f"{uploads}/../song.wav", f"{uploads}x/a.wav", "", None):
        assert refuse(app.find_upload, {"path": other})[0] == 400


def test_the_functions_are_typed_and_say_what_they_take(app: Any, studio: Studio, uploads: Path) -> None:
    import gradio

    endpoints = {one.__name__: one for one in app.Tools(studio).list_functions()}
    assert list(endpoints) == ["ask", "decide", "describe"]
    song = write_song(uploads / "song.wav", 12.0, rate=8_000)
    given = {"path": str(song), "meta": {"_type": "gradio.FileData"}}
    for endpoint in endpoints.values():
        parameters = inspect.signature(endpoint).parameters
        assert all(one.annotation is not inspect.Parameter.empty for one in parameters.values())
        assert all(f"{name}: " in endpoint.__doc__ for name in parameters)
    assert endpoints["ask"](given, FREE) == studio.ask(str(song), FREE)
    (uploads / "junk.mp3").write_bytes(b"junk" * 99)
    with pytest.raises(gradio.Error) as raised:
        endpoints["describe"]({"path": str(uploads / "junk.mp3")})
    assert str(raised.value).startswith("audio: is not sound that can be read")


def test_a_component_takes_no_address_and_no_file_that_was_not_uploaded(app: Any, uploads: Path) -> None:
    class Block:
        async def async_move_resource_to_block_cache(self, path: str) -> str:
            return f"moved {path}"

    (uploads / "a b.wav").write_bytes(b"x")
    block = Block()
    app.keep_to_uploads(block, uploads.parent / "example.flac")
    take = block.async_move_resource_to_block_cache
    for path in (f"{uploads}/a b.wav", f"{uploads.parent}/example.flac"):
        assert asyncio.run(take(path)) == f"moved {path}"
    own = f"http://localhost:1/gradio_api/file={uploads}/a%20b.wav"
    assert asyncio.run(take(own)) == f"moved {uploads}/a b.wav"
    for address in ("https://example.org/a.wav", "http://localhost/gradio_api/file=/etc/passwd", "/etc/passwd", "/x",
                    f"{uploads}/../example.flac2"):  # fmt: skip
        with pytest.raises(Exception, match="no address is fetched|no file that was uploaded"):
            asyncio.run(take(address))


def test_a_conversation_keeps_its_turns_and_names_refusals(app: Any, studio: Studio, song: str) -> None:
    visit = app.Visit(song)
    (waiting, _, field), (shown, _, _) = app.converse(studio, visit, TYPED, "")
    assert "Listening" in waiting and "Listening" not in shown and field == "" and len(visit.turns) == 1
    *_, (shown, _, _) = app.converse(studio, visit, EVIL, "rock, jazz,")
    assert shown.index("&lt;img") < shown.index(TYPED) and len(visit.turns) == 2 and "<img" not in shown
    *_, (shown, _, _) = app.converse(studio, visit, "mood", "one,")
    assert "one option is no choice" in visit.turns[-1].parts[0]
    *_, (shown, _, _) = app.converse(studio, app.Visit(), TYPED, "")
    assert "there is no track: give one first" in shown
    looking, *_, explained = app.explain_turns(studio, visit)
    assert "Looking where it comes from" in looking and "Looking" not in explained
    assert re.search("Rests most on|No second stands out", "".join(visit.turns[0].parts))
    assert list(app.explain_turns(studio, visit)) == [visit.show()]


def test_a_track_that_cannot_be_heard_leaves_a_sentence(app: Any, studio: Studio, song: str, uploads: Path) -> None:
    junk, visit = str(uploads / "junk.mp3"), app.Visit("before", [app.Turn(TYPED, [])])
    Path(junk).write_bytes(b"junk" * 99)
    picture, below, *_ = app.open_track(studio, song, visit)  # whose path somebody has guessed
    assert "no file that was uploaded" in picture and below["visible"] is False and visit == app.Visit()
    assert app.describe_track(studio, song, visit) == {"__type__": "update"}
    song = shutil.copy(song, uploads)
    picture, below, description, *_ = app.open_track(studio, junk, visit)
    assert "audio: is not sound that can be read" in picture and below["visible"] is False and description == ""
    assert "not sound" in app.describe_track(studio, junk, visit) and visit == app.Visit(junk)
    picture, below, description, *_ = app.open_track(studio, song, visit)
    assert "dc-window" in picture and below["visible"] and "Listening" in description
    assert "What it hears" in app.describe_track(studio, song, visit)
    assert app.describe_track(studio, junk, visit) == {"__type__": "update"}  # is over
    assert app.open_track(studio, None, visit)[0] == "" and app.describe_track(studio, None, visit) == ""


def test_evidence_is_drawn_where_it_lies() -> None:
    spans = [Span(10.0, 11.0, 0.2), Span(11.0, 12.0, 0.02), Span(12.0, 13.0, -0.1)]
    found = Evidence(EVIL, "yes", 0.9, spans, [Span(0.0, 10.0, 0.1), Span(10.0, 20.0, 0.3)])
    assert drawing.mark_spans(found) == [[0.0, 10.0, 0.25, 0], [10.0, 11.0, 1.0, 1], [11.0, 12.0, 0.1, 0]]
    shown = drawing.show_evidence(found)
    assert "Rests most on 0:10–0:11 (without 0:10–0:11: 70 %)." in shown and "data-evidence=\"[[0.0, 10.0" in shown
    assert "No second stands out" in drawing.show_evidence(replace(found, spans=[Span(0.0, 1.0, 0.001)]))


def test_the_example_is_a_track_of_four_pieces(app: Any, tmp_path: Path) -> None:
    assert soundfile.info(app.write_example(tmp_path)).duration == pytest.approx(40, abs=0.1)


def test_the_page_offers_three_functions_and_no_more(app: Any, studio: Studio, uploads: Path) -> None:
    from gradio.processing_utils import async_move_files_to_cache

    private = {"path": str(app.write_example(uploads.parent)), "meta": {"_type": "gradio.FileData"}}
    page = app.build_page(studio, uploads.parent / "another.flac")
    for block in page.blocks.values():
        with pytest.raises(Exception, match="no file that was uploaded"):
            asyncio.run(async_move_files_to_cache(private, block, check_in_upload_folder=True))
    named = page.get_api_info()["named_endpoints"]
    assert set(named) == {"/ask", "/decide", "/describe"}
    assert not page.analytics_enabled
    app.mount(page, studio)
    assert "fonts.googleapis" not in page.theme_css
    assert set(page.mcp_server_obj.tool_to_endpoint) == {"ask", "decide", "describe"}

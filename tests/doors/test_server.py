"""Tests of the server without a network: answers as `descant ask` gives them, refusals in a sentence each."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from tiny import climb, save_tiny_decider, write_song

from descant import cli
from descant.answering.listener import Listener
from descant.doors.requests import Limits, Refusal, fetch
from descant.doors.server import (
    Gate,
    Service,
    build_app,
    drop_slow_headers,
    is_loopback,
    name_model,
    read_token,
    respond,
)

for package in ("fastapi", "openai"):
    pytest.importorskip(package, reason="the server takes pip install descant[serve]")
uvicorn = pytest.importorskip("uvicorn", reason="the server takes pip install descant[serve]")

FREE, TYPED = "Which instruments play?", "What is the genre?"
TOKEN = "a-token-of-24-characters"
LIMITS = Limits(bytes=2**21, sound_s=40.0, wait_s=60.0, stall_s=0.05, requests=3)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def sentence(self) -> str:
        error = self.json["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return error["message"]


class Client:
    """Calls an application as a server would, in one loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runner = folder, asyncio.Runner()
        self.service = Service(Listener.load(folder), name_model(str(folder)), LIMITS)
        self.app = build_app(self.service)

    async def send(self, path: str, body: bytes, method: str = "POST", app: Any = None, **headers: str) -> Reply:
        found: list[Any] = []
        pieces = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return pieces.pop() if pieces else await asyncio.sleep(60)

        async def send(message: Any) -> None:
            found.append(message)

        all_headers = {"content-type": "application/json", "host": "localhost:1"} | headers
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in all_headers.items()]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": pairs, "scheme": "http", "server": ("localhost", 1), "client": ("localhost", 2),
            "http_version": "1.1", "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        await (app or self.app)(scope, receive, send)
        start = found[0]
        names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], names, b"".join(one.get("body", b"") for one in found[1:]))

    def post(self, path: str, content: Any, **more: Any) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.runner.run(self.send(path, body, **more))

    def ask(self, **fields: Any) -> Reply:
        return self.post("/v1/chat/completions", {"model": self.folder.name, **fields})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = Client(save_tiny_decider(tmp_path_factory.mktemp("models") / "tiny"))
    yield client
    client.service.shutdown()
    client.service.queue.thread.join(120)
    assert not client.service.is_cb_alive()
    client.runner.close()


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("songs") / "song.wav", 25.0, rate=8_000)


def encode(sound: Path | bytes) -> str:
    return base64.b64encode(sound if isinstance(sound, bytes) else sound.read_bytes()).decode()


def message(sound: Path | bytes, question: str | None = FREE) -> dict[str, Any]:
    part = {"type": "input_audio", "input_audio": {"data": encode(sound), "format": "wav"}}
    text = [] if question is None else [{"type": "text", "text": question}]
    return {"role": "user", "content": [part, *text]}


def write_bytes(wave: np.ndarray, rate: int = 8_000) -> bytes:
    file = BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


# Answers


@pytest.mark.parametrize("question", [FREE, TYPED, None])
def test_an_answer_is_the_one_of_descant_ask(
    client: Client, song: Path, question: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = client.ask(messages=[message(song, question)])
    assert cli.main(["ask", str(client.folder), str(song), "--json", *(["-q", question] if question else [])]) == 0
    expected = json.loads(capsys.readouterr().out)
    decided = expected["decided"]
    (choice,) = reply.json["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected["prediction"]}
    assert (decided or {"text": expected["prediction"]})["text"] == expected["prediction"]
    assert choice["finish_reason"] == "stop" and reply.json["model"] == "tiny" and reply.json["id"]
    details = reply.json["descant"]
    assert details == {name: expected[name] for name in details} and bool(decided) == (question == TYPED)
    assert details["heard"] and details["of"] == 3
    usage = reply.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


def test_many_at_a_time_are_answered_as_one_by_one(client: Client) -> None:
    songs = [write_bytes(climb(11.0, 8_000, hertz)) for hertz in (110.0, 300.0, 517.0)]
    chats = [[message(song, question)] for song in songs for question in (FREE, TYPED, "Fast?")]
    alone = [client.ask(messages=chat).json["choices"][0]["message"]["content"] for chat in chats]
    wide = Gate(client.app.app, Limits(), None, None)

    async def ask_all() -> list[Reply]:
        bodies = [json.dumps({"model": "tiny", "messages": chat}).encode() for chat in chats]
        return await asyncio.gather(*(client.send("/v1/chat/completions", body, app=wide) for body in bodies))

    together = [reply.json["choices"][0]["message"]["content"] for reply in client.runner.run(ask_all())]
    assert together == alone and len(set(alone)) > 2


def test_a_stream_carries_the_finished_answer(client: Client, song: Path) -> None:
    whole = client.ask(messages=[message(song)]).json
    reply = client.ask(messages=[message(song)], stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *events, done = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n") if line]
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]" and {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, "stop"]
    assert chunks[-1]["usage"] == whole["usage"] and chunks[-2]["descant"] == whole["descant"]
    refused = client.ask(messages=[message(b"junk")], stream=True)
    assert refused.status == 422 and "is not sound" in refused.sentence


def test_an_answer_is_cut_at_the_tokens_that_are_asked_for(client: Client, song: Path) -> None:
    same = {"temperature": 0.0, "n": 1, "logprobs": False, "seed": 3, "stop": None}
    whole = client.ask(messages=[message(song)], max_tokens=99, **same)
    count = whole.json["usage"]["completion_tokens"]
    assert whole.json["choices"][0]["finish_reason"] == "stop" and count > 1
    cut = client.ask(messages=[message(song)], max_completion_tokens=1).json
    assert cut["choices"][0]["finish_reason"] == "length" and cut["usage"]["completion_tokens"] == 1
    text = whole.json["choices"][0]["message"]["content"]
    assert text.startswith(cut["choices"][0]["message"]["content"]) and text != cut["choices"][0]["message"]["content"]


def test_typed_questions_are_answered_as_decide_answers_them(client: Client, song: Path) -> None:
    questions = {"genre": {"type": "choice", "instructions": TYPED, "criteria": {"jazz": None, "rock": None}}}
    asset = {"type": "audio", "format": "wav", "data_base64": encode(song)}
    expected = client.service.listener.decide(song, questions)
    for request in ({"state": "<track>", "assets": {"<track>": asset}}, {"state": asset}):
        reply = client.post("/v1/systemone", {"model": "tiny", "questions": questions, **request})
        assert reply.status == 200 and reply.json["answers"] == json.loads(json.dumps(expected))
        assert reply.json["model"] == "tiny" and reply.json["usage"]["output_tokens"] == 0


def test_models_and_health(client: Client) -> None:
    run, send = client.runner.run, client.send
    (model,) = run(send("/v1/models", b"", "GET")).json["data"]
    assert model["id"] == "tiny" and model["object"] == "model"
    assert run(send("/health", b"", "GET")).json == {"status": "ok"}


# Refusals


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/load_model", "/reset", "/v1/responses", "/v1/x"])
def test_only_the_named_routes_exist(client: Client, path: str) -> None:
    for method in ("GET", "POST"):
        reply = client.post(path, {"model": "tiny"}, method=method)
        assert reply.status == 404 and "/v1/chat/completions" in reply.sentence


def test_what_no_request_is(client: Client) -> None:
    cases = [
        (b"", 400, "no JSON"), (b"[1]", 400, "is a JSON list"), (b'{"a": NaN}', 400, "NaN is no number"),
        (b'{"a": 1e999}', 400, "no number that can be used"), (b'{"a": "\\ud800"}', 400, "no JSON in UTF-8"),
        (b'{"a": "\xff"}', 400, "no JSON in UTF-8"), (b'{"a": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", 400, "nested"),
        (b'{"a": [' + b"1," * 20_000 + b"1]}", 400, "more than 10000 values"), (b"x" * (2**21 + 1), 413, "more than"),
        (b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}", 400, "nested"),
        (b'{"a": ' + b"9" * 5_000 + b"}", 400, "no JSON"), (b'{"a": 1', 400, "no JSON"),
    ]  # fmt: skip
    for path in ("/v1/chat/completions", "/v1/systemone"):
        for body, status, sentence in cases:
            reply = client.post(path, body)
            assert reply.status == status and sentence in reply.sentence, body[:40]
    assert client.post("/v1/systemone", {}, content_type="text/plain").status == 415
    assert client.post("/v1/systemone", {}, method="GET").headers["allow"] == "POST"
    assert client.post("/v1/systemone", {}, content_length="99999999").status == 413
    assert client.post("/v1/systemone", {}, content_length="x").status == 413


def test_fields_that_are_not_followed_are_refused_by_name(client: Client, song: Path) -> None:
    fields = {
        "logprobs": True, "top_logprobs": 3, "tools": [{}], "tool_choice": "auto", "temperature": 0.7, "n": 2, "n ": 1,
        "response_format": {"type": "json_object"}, "stop": "x", "top_p": 0.5, "audio": {}, "modalities": ["audio"],
        "frequency_penalty": 1, "logit_bias": {"1": 2}, "user": "me", "store": True, "temperature\n": 0,
    }  # fmt: skip
    for name, value in fields.items():
        reply = client.ask(messages=[message(song)], **{name: value})
        assert reply.status == 400 and reply.json["error"]["param"] == name, name
        assert reply.sentence.startswith(name.strip()) and "not followed" in reply.sentence
    odd = {"n": True, "temperature": False, "max_tokens": 0, "stream": 1, "stream_options": {"x": 1}}
    for name, value in odd.items():
        assert client.ask(messages=[message(song)], **{name: value}).status == 400, name
    assert client.post("/v1/chat/completions", {"model": "gpt", "messages": []}).status == 404
    assert client.post("/v1/chat/completions", {"messages": []}).status == 400


def test_chats_that_cannot_be_answered_are_refused(client: Client, song: Path) -> None:
    one = message(song)
    cases = [
        (None, "no list of"), ([], "no list of"), ([{"role": "user", "content": "Fast?"}], "holds no audio"),
        ([{"role": "user", "content": one["content"][:1] * 2}], "holds 2 sounds"),
        ([{"role": "system", "content": "Be brief."}, one], "system message"),
        ([one, {"role": "assistant", "content": "Jazz."}, {"role": "user", "content": "Sure?"}], "earlier ones"),
        ([one, {"role": "assistant", "content": "It"}], "begins its answers itself"),
        ([{"role": "user", "content": [{"type": "audio", "path": str(song)}]}], "'audio' is not followed"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "'image_url' is not"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "@@"}}]}], "is no base64"),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]}], "holds no input_audio.data"),
        ([{"role": "user", "content": [3]}], "neither text nor a list"), ([4], "no list of messages"),
        ([message(song, "why " * 3_000)], "longer than 10000"), ([message(song, "why " * 2_000)], "positions"),
        ([message(song, "x") | {"content": one["content"] + [{"type": "text", "text": "?"}] * 1_000}], "positions"),
    ]  # fmt: skip
    for messages, sentence in cases:
        reply = client.ask(messages=messages)
        assert reply.status == 400 and sentence in reply.sentence, (sentence, reply)
        assert str(client.folder.parent) not in reply.body.decode() and len(reply.sentence) <= 301


def test_sound_that_cannot_be_heard_has_the_sentence_of_descant_ask(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = tmp_path / "long.flac"
    soundfile.write(long, np.tile(climb(5.0, 8_000, 220.0), 9), 8_000)
    bad = {
        "junk": b"junk" * 999, "empty": b"", "silent": write_bytes(np.zeros(30_000)),
        "short": write_bytes(np.ones(99)), "nan": write_bytes(np.full(30_000, np.nan)),
        "cut": write_bytes(climb(3.0, 8_000, 220.0))[:-9_000],
    }  # fmt: skip
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        assert cli.main(["ask", str(client.folder), str(tmp_path / name)]) == 1
        said = capsys.readouterr().err.strip().removeprefix(f"descant ask: {tmp_path / name}: ")
        asset = {"type": "audio", "format": "wav", "data_base64": encode(content)}
        typed = {"model": "tiny", "state": asset, "questions": {"a": {"type": "noul", "instructions": "Fast?"}}}
        for reply in (client.ask(messages=[message(content)]), client.post("/v1/systemone", typed)):
            assert reply.status == 422 and reply.sentence == f"audio: {said}", name
    reply = client.ask(messages=[message(long)])
    assert reply.status == 422 and reply.sentence == "audio: lasts longer than 40 s, the longest that is heard here"


def test_sound_is_fetched_from_nowhere_that_is_not_allowed(client: Client, song: Path) -> None:
    def ask(url: str) -> Reply:
        part = {"type": "audio_url", "audio_url": {"url": url}}
        return client.ask(messages=[{"role": "user", "content": [part, {"type": "text", "text": FREE}]}])

    expected = client.ask(messages=[message(song)]).json["choices"]
    for head in ("data:audio/wav;base64,", "DATA:;base64,"):
        assert ask(head + encode(song)).json["choices"] == expected
    urls = ("file:///etc/passwd", "http://169.254.169.254/latest", "http://localhost/a", "ftp://a/b", str(song), "",
            "http://[::1", "gopher://x", "http://data:80/a", "HTTP://127.0.0.1:1/", "http://a@b/")  # fmt: skip
    for url in urls:
        assert ask(url).status == 400, url
    assert "holds no comma" in ask("data:audio/wav").sentence


def test_sound_of_an_allowed_host_is_fetched_without_redirections(
    client: Client, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = song.read_bytes() if self.path == "/song" else b"x" * 600
            self.send_response({"/moved": 302, "/gone": 404}.get(self.path, 200))
            self.send_header("Location", "/song")
            self.send_header("Content-Length", str(len(content) + 9 * (self.path == "/cut")))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        service = Service(client.service.listener, "tiny", replace(LIMITS, hosts=frozenset([host])))
        app = build_app(service)

        def ask(url: str) -> Reply:
            part = {"type": "audio_url", "audio_url": {"url": url}}
            chat = [{"role": "user", "content": [part, {"type": "text", "text": FREE}]}]
            return client.post("/v1/chat/completions", {"model": "tiny", "messages": chat}, app=app)

        expected = client.ask(messages=[message(song)]).json["choices"]
        assert ask(f"http://{host}/song").json["choices"] == expected
        cases = {"moved": "with 302, and no redirection", "gone": "answers with 404", "cut": "cannot be fetched",
                 "junk": "audio: is not sound"}  # fmt: skip
        for path, sentence in cases.items():
            reply = ask(f"http://{host}/{path}")
            assert reply.status in (400, 422) and sentence in reply.sentence, path
        for url in ("http://127.0.0.1/song", f"http://x@{host}/song", f"ftp://{host}/song", f"http://{host}/a b",
                    f"http://{host}@example.org/", f"http://{host}\n/song", f"http://{host}%2f@x/"):  # fmt: skip
            assert ask(url).status == 400, url
        with pytest.raises(Refusal, match="more than 500 bytes"):
            fetch(f"http://{host}/junk", 500)
        monkeypatch.setattr("descant.doors.requests.FETCH_S", -1.0)
        with pytest.raises(Refusal, match="it takes longer than"):
            fetch(f"http://{host}/song", 2**20)
        server.shutdown()
    assert "cannot be fetched" in ask(f"http://{host}/song").sentence
    service.shutdown()


def test_typed_requests_that_cannot_be_answered(client: Client, song: Path) -> None:
    asset = {"type": "audio", "format": "wav", "data_base64": encode(song)}
    question = {"type": "noul", "instructions": "Fast?"}
    good = {"model": "tiny", "state": asset, "questions": {"a": question}}
    cases = [
        ({"questions": {}}, "1 to 64"), ({"questions": {str(i): question for i in range(1_000)}}, "1 to 64"),
        ({"questions": {"a": question | {"criteria": ["x" * 1_001, "y"]}}}, "over 1000 characters"),
        ({"questions": {"a": question | {"criteria": {str(i): "x" * 900 for i in range(12)}}}}, "longer than 10000"),
        ({"questions": {"a": {"type": "?"}}}, "a"), ({"state": str(song)}, "audio asset"), ({"state": None}, "asset"),
        ({"state": asset | {"type": "image"}}, "only audio"), ({"state": asset | {"data_base64": "@"}}, "no base64"),
        ({"assets": {"b": asset}}, "one recording"), ({"assets": []}, ""), ({"assets": [1]}, "by name"),
        ({"hear": 3}, "hear is not followed"), ({"questions": {"a": 3}}, ""), ({"model": "x"}, "'tiny'"),
    ]  # fmt: skip
    for change, sentence in cases:
        reply = client.post("/v1/systemone", good | change)
        if change != {"assets": []}:
            assert reply.status in (400, 404) and sentence in reply.sentence, (change, reply)
            assert str(song.parent) not in reply.sentence


# The gate


def test_a_token_is_needed_where_there_is_one(client: Client, song: Path) -> None:
    app = build_app(client.service, TOKEN)
    body = {"model": "tiny", "messages": [message(song)]}
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Bearer \xe9"}):
        reply = client.post("/v1/chat/completions", body, app=app, **given)
        assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer" and "token" in reply.sentence
    assert client.post("/v1/chat/completions", body, app=app, authorization=f"Bearer {TOKEN}").status == 200
    assert client.post("/v1/models", b"", app=app, method="GET").status == 401
    assert client.post("/health", b"", app=app, method="GET").status == 200


def test_a_page_of_the_web_that_points_here_is_refused(client: Client) -> None:
    app = build_app(client.service, None, ["localhost", "::1"])
    for host, status in (("evil.example", 421), ("localhost:80", 200), ("[::1]:80", 200), ("", 421), ("[::2]", 421)):
        assert client.post("/v1/models", b"", app=app, method="GET", host=host).status == status, host


def test_too_many_and_too_slow_requests_are_refused(client: Client) -> None:
    gate = client.app

    async def stall() -> Reply:
        return await client.send("/v1/systemone", b"", app=lambda scope, _, send: gate(scope, never, send))

    async def never() -> Any:
        await asyncio.sleep(60)

    async def crowd() -> list[Reply]:
        return await asyncio.gather(*(stall() for _ in range(LIMITS.requests + 2)))

    replies = client.runner.run(crowd())
    assert sorted(reply.status for reply in replies) == [408] * LIMITS.requests + [429] * 2
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies if reply.status == 429)
    assert all(reply.headers["connection"] == "close" for reply in replies if reply.status == 408)
    assert gate.inside == gate.held == 0
    gate.held = 8 * LIMITS.bytes
    assert client.post("/v1/systemone", {}).status == 429
    gate.held = 0


def test_an_answer_that_takes_too_long_is_given_up(
    client: Client, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = Service(client.service.listener, "tiny", Limits(wait_s=0.0))
    monkeypatch.setattr(impatient.queue, "ask", lambda *_: Future())
    body = {"model": "tiny", "messages": [message(song)]}
    app = Gate(build_app(impatient).app, Limits(), None, None)  # which reads the request in time
    reply = client.post("/v1/chat/completions", body, app=app)
    assert reply.status == 503 and "within 0 s" in reply.sentence and reply.headers["retry-after"]
    impatient.shutdown()


def test_a_fault_of_the_server_shows_nothing_of_it(
    client: Client, song: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise errors[0](f"secret {song}")

    errors: list[type[Exception]] = [ValueError]
    chat = {"model": "tiny", "messages": [message(song)]}
    typed = {"model": "tiny", "messages": [message(song, TYPED)]}
    question = {"genre": {"type": "choice", "instructions": TYPED, "criteria": {"jazz": None, "rock": None}}}
    asset = {"type": "audio", "format": "wav", "data_base64": encode(song)}
    decision = {"model": "tiny", "questions": question, "state": asset}
    server, model = "the server failed at this request", "the model failed at this request"
    for name, path, body, sentence in (
        ("descant.doors.server.read_chat_request", "/v1/chat/completions", chat, server),
        ("descant.doors.answering_queue.ask_together", "/v1/chat/completions", chat, model),
        ("descant.models.lp_music_caps.track_music.TrackDecider.decide", "/v1/chat/completions", typed, model),
        ("descant.models.lp_music_caps.track_music.TrackDecider.decide", "/v1/systemone", decision, model),
        ("descant.answering.stream.AnswerStream.judge", "/v1/chat/completions", chat, model),
    ):
        with monkeypatch.context() as patched:
            caplog.clear()
            errors[0] = RuntimeError if name.endswith("judge") else ValueError  # which is for what cannot be asked
            patched.setattr(name, fail)
            reply = client.post(path, body)
        assert (reply.status, reply.sentence) == (500, sentence) and "secret" in caplog.text, name
    assert client.post("/v1/chat/completions", chat).status == 200  # and it goes on


def test_who_has_gone_away_is_forgotten(client: Client) -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "POST", "path": "/v1/systemone",
             "headers": [(b"content-type", b"application/json")]}  # fmt: skip
    client.runner.run(client.app(scope, gone, send))
    assert client.app.inside == 0


def test_what_nobody_waits_for_is_not_answered(client: Client, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    left = asyncio.Event()

    def listen(windows: Any, question: Any) -> "Future[Any]":
        asked.append(Future())
        left.set()
        return asked[-1]

    monkeypatch.setattr(client.service.queue, "ask", listen)
    body = json.dumps({"model": "tiny", "messages": [message(song)]}).encode()
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not pieces:
            await left.wait()
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "query_string": b""}
    client.runner.run(client.app(scope, receive, send))
    assert [future.cancelled() for future in asked] == [True] and client.app.inside == 0


# Settings


def test_missing_packages_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("fastapi", "openai", "transformers.cli.serving.server"):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, package, None)
            with pytest.raises(ImportError, match=r"the server takes: pip install 'descant\[serve\]'"):
                build_app(client.service)


def test_tokens_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert read_token(tmp_path / "token", None) == read_token(None, TOKEN) == TOKEN
    assert read_token(None, None) is read_token(None, " ") is None
    (tmp_path / "short").write_text("short")
    for path, variable in ((tmp_path / "short", None), (tmp_path / "none", None), (tmp_path, None), (None, "short")):
        with pytest.raises(ValueError, match="token|none"):
            read_token(path, variable)
    assert [is_loopback(host) for host in ("localhost", "127.0.0.1", "127.3.2.1", "::1")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "example.org", "localhost.evil", "")] == [False] * 5
    assert name_model("org/name") == "org/name" and name_model(str(tmp_path)) == tmp_path.name


def test_connections_whose_headers_do_not_come_are_closed_and_others_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)  # longer than headers may take
        await respond(Refusal(404, "slow, but there"), send)

    async def ask(port: int, requests: int, ending: bytes) -> bytes:
        """Send requests on one connection, with pauses that are longer than headers may take, then an ending."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        found = b""
        for _ in range(requests):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            found += await reader.readuntil(b"}}")
            await asyncio.sleep(0.6)
        writer.write(ending)
        return found + await reader.read()

    async def trickle(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: ")
        while not reader.at_eof():
            writer.write(b"a")
            with contextlib.suppress(TimeoutError, ConnectionError):
                await asyncio.wait_for(reader.read(1), 0.05)

    async def run() -> list[Any]:
        config = uvicorn.Config(app, log_config=None, timeout_keep_alive=60)
        config.load()
        protocol, state = drop_slow_headers(0.5), uvicorn.server.ServerState()
        server = await asyncio.get_running_loop().create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        tried = ask(port, 0, b""), trickle(port), ask(port, 2, b"GET /"), ask(port, 1, b"nonsense\r\n\r\n")
        found = await asyncio.wait_for(asyncio.gather(*tried), 30)
        server.close()
        return found

    silent, _, twice, wrong = asyncio.run(run())
    assert silent == b"" and twice.count(b"slow, but there") == 2
    assert wrong.count(b"slow, but there") == 1 and b"400 Bad Request" in wrong

"""A server that speaks OpenAI's chat completions and System One's decisions: transformers' own, asked about music.

Transformers' `build_server` gives the routes; what handles them here calls a `Listener`. `Gate` stands before them and
lets in what is allowed, small and quick enough. All refusals are one sentence, in OpenAI's form of an error.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import json
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descant.answering.listener import Listener
from descant.data.audio import Window
from descant.doors.answering_queue import AnsweringQueue, Said
from descant.doors.requests import ChatRequest, Limits, Refusal, hear, parse, read_chat_request, read_decision_request
from descant.program import name_error

log = logging.getLogger(__name__)

# Paths that exist, with the method that each takes.
ROUTES = {"/v1/chat/completions": "POST", "/v1/systemone": "POST", "/v1/models": "GET", "/health": "GET"}
OPEN = ("/health",)  # asked for without the token
READERS = 2  # recordings that are decoded at a time
MOST_HELD = 8  # bodies of the largest size, or as many bytes of smaller ones, that are kept at a time
MOST_DROPPED, DROP_STALL_S = 8, 1.0  # of a body that is too large: times the largest size, seconds without more
LEAST_TOKEN = 16  # characters

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Service:
    """A model that many ask at a time, under a name, within limits."""

    def __init__(self, listener: Listener, name: str, limits: Limits, hear: int | None = 12) -> None:
        """Start answering. hear: how many windows of a recording are heard at most; None: all."""
        self.listener, self.name, self.limits, self.hear = listener, name, limits, hear
        self.queue = AnsweringQueue(listener, hear)
        self.began = int(time.time())
        self.reading = asyncio.Semaphore(READERS)

    async def read(self, sound: bytes | str) -> list[Window]:
        """Return the windows that are heard of a sound file's bytes, or of what a URL has; raises Refusal."""
        async with self.reading:
            extractor = self.listener.processor.feature_extractor
            return await asyncio.to_thread(hear, sound, extractor, self.limits, self.hear)

    async def ask(self, request: ChatRequest) -> Said:
        """Answer a question; raises Refusal."""
        async with self._in_time():
            return await self._wait(self.queue.ask(await self.read(request.sound), request.question), "messages")

    async def decide(self, sound: bytes, questions: dict[str, Any]) -> dict[str, Any]:
        """Answer typed questions; raises Refusal."""
        async with self._in_time():
            return await self._wait(self.queue.decide(await self.read(sound), questions), "questions")

    def _in_time(self) -> "_InTime":
        return _InTime(self.limits.wait_s)

    @staticmethod
    async def _wait(future: Any, field: str) -> Any:
        try:
            return await asyncio.wrap_future(future)
        except ValueError as error:
            raise Refusal(400, str(error), field) from error
        except RuntimeError as error:  # logged where it was raised
            raise Refusal(500, str(error)) from error

    # What transformers' server asks of those that look after its models.

    def list_models(self) -> list[dict[str, Any]]:
        """Return the one model."""
        return [{"id": self.name, "object": "model", "created": self.began, "owned_by": "descant"}]

    def shutdown(self) -> None:
        """End the thread that answers."""
        self.queue.close()

    def is_cb_alive(self) -> bool:
        """Return whether answers are given."""
        return self.queue.is_alive()


class _InTime:
    """Turns the end of the time that a request has into a refusal; what waits for the model is then left out."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.timeout = seconds, asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self.timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self.timeout.__aexit__(*error)
        except TimeoutError:
            raise Refusal(503, f"there was no answer within {self.seconds:g} s", **{"Retry-After": "30"}) from None


class ChatHandler:
    """Answers `/v1/chat/completions`."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        """Answer one question about one recording, at once or as a stream that carries the finished answer."""
        from fastapi.responses import JSONResponse, StreamingResponse

        request = read_chat_request(body, self.service.name, self.service.limits)
        said = await self.service.ask(request)
        text, finish, usage = self._count(request, said.text)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": self.service.name}
        if request.stream:
            chunks = write_chunks(head, text, finish, said, usage if request.with_usage else None)
            return StreamingResponse(chunks, media_type="text/event-stream")
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        kind = {"object": "chat.completion", "choices": [choice], "usage": usage, "descant": said.details}
        return JSONResponse(head | kind)

    def _count(self, request: ChatRequest, text: str) -> tuple[str, str, dict[str, int]]:
        """Return the answer, cut at the most tokens that are asked for, why it ends, and the tokens' numbers."""
        processor, finish = self.service.listener.processor, "stop"
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        if request.most_tokens is not None and len(ids) > request.most_tokens:
            ids, finish = ids[: request.most_tokens], "length"
            text = processor.batch_decode([ids], skip_special_tokens=True)[0].strip()
        asked = len(processor.prompt_ids(request.question) or [])
        usage = {"prompt_tokens": asked, "completion_tokens": len(ids), "total_tokens": asked + len(ids)}
        return text, finish, usage


async def write_chunks(
    head: dict[str, Any], text: str, finish: str, said: Said, usage: dict[str, int] | None
) -> AsyncIterator[str]:
    """Yield a finished answer as the events of a stream."""
    deltas = [({"role": "assistant", "content": ""}, None), ({"content": text}, None), ({}, finish)]
    for delta, ends in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": ends, "logprobs": None}
        extra = {"descant": said.details} if ends else {}
        yield write_event(head | {"object": "chat.completion.chunk", "choices": [choice]} | extra)
    if usage is not None:
        yield write_event(head | {"object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def write_event(content: dict[str, Any]) -> str:
    """Write one event of a stream."""
    return f"data: {json.dumps(content, ensure_ascii=False, allow_nan=False)}\n\n"


class DecisionHandler:
    """Answers `/v1/systemone`."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def handle_request(self, body: dict[str, Any], request_id: str) -> Any:
        """Decide typed questions about one recording."""
        from fastapi.responses import JSONResponse

        request = read_decision_request(body, self.service.name)
        answers = await self.service.decide(request.sound, request.questions)
        usage = {"input_tokens": 0, "output_tokens": 0}
        return JSONResponse({"model": self.service.name, "answers": answers, "usage": usage})


# The server


def import_server() -> Callable[..., Any]:
    """Return transformers' `build_server`; raises ImportError, which says what to install, where it is not there."""
    try:
        import fastapi  # noqa: F401 - without these three, transformers' module is there and its function fails
        import openai  # noqa: F401
        import uvicorn  # noqa: F401
        from transformers.cli.serving.server import build_server
    except ImportError as error:
        raise ImportError(f"{error}; the server takes: pip install 'descant[serve]' 'transformers>=5.24'") from error
    return build_server


def build_app(service: Service, token: str | None = None, names: Sequence[str] | None = None) -> App:
    """Return the server as an ASGI application: transformers' routes that are named in ROUTES, behind a gate.

    names: those that a request may call this machine by; None: any.
    Raises ImportError where a package or transformers' server is missing.
    """
    build_server = import_server()
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    others: dict[str, Any] = dict.fromkeys(("completion_handler", "response_handler", "transcription_handler"))
    app: FastAPI = build_server(
        model_manager=service, chat_handler=ChatHandler(service), systemone_handler=DecisionHandler(service),
        generation_state=service, **others,
    )  # fmt: skip
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) in ROUTES]

    @app.exception_handler(Refusal)
    @app.exception_handler(Exception)  # it is raised again behind this answer, and logged by the gate
    async def refuse(_: Request, error: Exception) -> JSONResponse:
        refusal = as_refusal(error)
        return JSONResponse(refusal.to_json(), refusal.status, refusal.headers)

    return Gate(app, service.limits, token, names)


def drop_slow_headers(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol of HTTP, which closes a connection whose headers are not there after so many seconds.

    Uvicorn itself waits for them as long as the connection lasts. The time begins with the connection, or with the
    first byte of its next request, and does not begin again with more bytes.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class HeadersInTime(H11Protocol):
        waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            self._wait()
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:  # the headers are there, or will not be read
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self.waiting is None:
                self.waiting = self.loop.call_later(seconds, self.transport.close)

        def _stop_waiting(self) -> None:
            if self.waiting is not None:
                self.waiting.cancel()
                self.waiting = None

    return HeadersInTime


class Guard:
    """Stands before an application: what it does not let in is refused, and what fails is named.

    names: of this host; None: any.
    """

    sent: Sequence[tuple[bytes, bytes]] = ()  # headers of every answer

    def __init__(self, app: App, limits: Limits, token: str | None, names: Sequence[str] | None) -> None:
        self.app, self.limits, self.token, self.names = app, limits, token, names
        self.inside = 0  # requests with a body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the application's beginning and end."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def dress(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *self.sent]
            await send(message)

        try:
            await self._let_in(scope, receive, dress)
        except ConnectionError:
            return  # it has gone away
        except Exception as error:
            if not isinstance(error, Refusal):
                log.error("a request failed: %s", name_error(error))
            if not begun:
                await respond(as_refusal(error), dress)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        self._check(scope["path"], scope["method"], headers)
        if scope["method"] == "POST":
            await self._take(scope, headers, receive, send)
        else:
            await self.app(scope, receive, send)

    def _check(self, path: str, method: str, headers: dict[str, str]) -> None:
        """Raise Refusal for a request that is not let in, whatever its body."""
        raise NotImplementedError

    async def _take(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        """Let a request with a body through; raises Refusal."""
        raise NotImplementedError


class Gate(Guard):
    """Lets requests through to an application: known ones, with the token, not too many, too large or too slow."""

    def __init__(self, app: App, limits: Limits, token: str | None, names: Sequence[str] | None) -> None:
        super().__init__(app, limits, token, names)
        self.held = 0  # bytes of the bodies

    async def _take(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        with self._place() as holding:
            body = await self._read(receive, headers, holding)
            parse(body)
            await answer_while_there(self.app, scope, body, receive, send)

    def _check(self, path: str, method: str, headers: dict[str, str]) -> None:
        if path not in ROUTES:
            raise Refusal(404, f"there is no {path} here: {', '.join(ROUTES)}")
        if method != ROUTES[path]:
            raise Refusal(405, f"{path} takes {ROUTES[path]}", Allow=ROUTES[path])
        if self.names is not None and read_host(headers.get("host", "")) not in self.names:
            raise Refusal(421, "the request is for a host of another name")  # a page of the web that points here
        given = headers.get("authorization", "")
        if self.token and path not in OPEN and not hmac.compare_digest(
            given.encode("latin-1", "replace"), f"Bearer {self.token}".encode()
        ):  # fmt: skip
            raise Refusal(401, "the token is missing or wrong", **{"WWW-Authenticate": "Bearer"})
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method == "POST" and kind != "application/json":
            raise Refusal(415, "the request has to be application/json", "Content-Type")

    @contextmanager
    def _place(self) -> Iterator[list[int]]:
        """Take one of the places for requests, and give back what it holds in bytes; raises Refusal."""
        if self.inside >= self.limits.requests:
            raise self._too_many()
        self.inside += 1
        holding: list[int] = []
        try:
            yield holding
        finally:
            self.inside -= 1
            self.held -= sum(holding)

    def _too_many(self) -> Refusal:
        pause_s = max(1, math.ceil(self.inside / 8))
        return Refusal(429, "too many requests at a time: try again later", **{"Retry-After": str(pause_s)})

    async def _read(self, receive: Receive, headers: dict[str, str], holding: list[int]) -> bytes:
        """Read a body; raises Refusal where it is too large, or nothing more comes."""
        most = self.limits.bytes
        announced = headers.get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > most:
            raise await self._refuse_large(receive)
        body = bytearray()
        deadline = time.monotonic() + self.limits.wait_s
        while True:
            wait_s = min(self.limits.stall_s, deadline - time.monotonic())
            try:
                message = await asyncio.wait_for(receive(), max(0.0, wait_s))
            except TimeoutError:
                raise Refusal(408, "the request stopped before its end", Connection="close") from None
            if message["type"] == "http.disconnect":
                raise ConnectionError
            piece = message.get("body", b"")
            if len(body) + len(piece) > most:
                raise await self._refuse_large(receive)
            if self.held + len(piece) > MOST_HELD * most:
                raise self._too_many()
            body += piece
            holding.append(len(piece))
            self.held += len(piece)
            if not message.get("more_body"):
                return bytes(body)

    async def _refuse_large(self, receive: Receive) -> Refusal:
        """Return the refusal once most of what comes has been dropped: a client that still sends does not read it."""
        left = MOST_DROPPED * self.limits.bytes
        with contextlib.suppress(TimeoutError):
            while left > 0:
                message = await asyncio.wait_for(receive(), min(DROP_STALL_S, self.limits.stall_s))
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    break
        return Refusal(413, f"the request has more than {self.limits.bytes} bytes", Connection="close")


async def answer_while_there(app: App, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
    """Let an application answer a request whose body has been read, until it has, or who asked has gone away."""
    gone = asyncio.ensure_future(receive())  # behind the body, nothing else comes
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return parts.pop() if parts else await asyncio.shield(gone)

    answering = asyncio.ensure_future(app(scope, replay, send))
    try:
        await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            answering.result()
    finally:
        answering.cancel()
        gone.cancel()
        await asyncio.gather(answering, gone, return_exceptions=True)


def as_refusal(error: Exception) -> Refusal:
    """Return a refusal as it is, and what nobody expected as one that tells nothing of this machine."""
    return error if isinstance(error, Refusal) else Refusal(500, "the server failed at this request")


async def respond(refusal: Refusal, send: Send) -> None:
    """Send a refusal."""
    body = json.dumps(refusal.to_json(), ensure_ascii=False).encode("utf-8", "replace")
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))} | refusal.headers
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def read_host(header: str) -> str:
    """Return the name in a Host header, without its port."""
    name = header.strip().lower()
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Return whether an address reaches this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path | None, variable: str | None) -> str | None:
    """Return the token of a file, else of an environment variable's value; ValueError where it is too short."""
    from descant.files import read_regular

    where = str(path) if path else "DESCANT_TOKEN"
    try:
        token = read_regular(path).decode().strip() if path else (variable or "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: holds no token that can be read") from error
    if (path or token) and not (len(token) >= LEAST_TOKEN and token.isascii() and token.isprintable()):
        raise ValueError(f"{where}: a token has at least {LEAST_TOKEN} characters, in ASCII")
    return token or None


def name_model(source: str) -> str:
    """Return the name under which a model is asked: of a folder its own name, not where it lies."""
    path = Path(source)
    return path.resolve().name if path.exists() else source

"""What other programs ask, read out of JSON and refused by name where it cannot be followed."""

import http.client
import json
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NoReturn
from urllib.parse import urlsplit

from descant.answering.stream import as_recording, as_track
from descant.data.audio import AudioError, Window
from descant.data.sound_file import read_blocks
from descant.models.lp_music_caps.sound_input import decode_base64, decode_data_url, read_chat
from descant.program import one_line, shorten

LONGEST_SENTENCE = 300  # characters of what a refusal says
LONGEST_QUESTION = 10_000  # characters, with all its options
LONGEST_TEXT = 1_000  # characters of a typed one; the memory that an option takes grows with the square of its length
DEEPEST = 50  # lists and objects within each other, of which no valid request has ten
MOST_VALUES = 10_000  # in a request, by its brackets, braces and commas: base64 has none of them
MOST_QUESTIONS = 64  # typed ones of a request
FETCH_TIMEOUT_S, FETCH_S = 20, 60.0  # for a byte, for all
AUDIO = "audio"  # what refusals call the sound, whose file is nobody's business

# Fields of a chat completion that a model here follows, and others with the values that change nothing.
FOLLOWED = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "seed")
HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (1,), "temperature": (0,), "top_p": (1,), "frequency_penalty": (0,), "presence_penalty": (0,),
    "logprobs": (False,), "tools": ([],), "functions": ([],), "store": (False,), "modalities": (["text"],),
    "response_format": ({"type": "text"},),
}  # fmt: skip


class Refusal(ValueError):
    """A request that is not answered: an HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str, field: str | None = None, **headers: str) -> None:
        super().__init__(shorten(" ".join(sentence.split()), LONGEST_SENTENCE))
        self.status, self.field, self.headers = status, field, headers

    def to_json(self) -> dict[str, Any]:
        """Return the body of the answer, in OpenAI's form."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": str(self), "type": kind, "param": self.field, "code": None}}


@dataclass(frozen=True)
class Limits:
    """How much a server takes: bytes of a request, seconds of sound and of waiting, requests at a time, hosts."""

    bytes: int = 32 * 2**20
    sound_s: float = 900.0
    wait_s: float = 120.0
    stall_s: float = 10.0
    requests: int = 64
    hosts: frozenset[str] = frozenset()  # from which sound may be fetched, as HOST or HOST:PORT


@dataclass(frozen=True)
class ChatRequest:
    """A question (None: a caption) about a sound (bytes, or the URL that has them), and how the answer is sent."""

    sound: bytes | str
    question: str | None
    stream: bool = False
    with_usage: bool = False  # at the end of a stream
    most_tokens: int | None = None


@dataclass(frozen=True)
class DecisionRequest:
    """System One's questions, by name, about a sound."""

    sound: bytes
    questions: dict[str, Any] = field(default_factory=dict)


def parse(body: bytes) -> dict[str, Any]:
    """Parse a request's JSON; raises Refusal for what is none, or is built to take memory."""
    if sum(body.count(mark) for mark in b"[{,") > MOST_VALUES:
        raise Refusal(400, f"the request holds more than {MOST_VALUES} values")
    try:
        found = json.loads(body.decode(), parse_constant=_refuse_number, parse_float=_read_float)
        if re.search(rb"\\u[dD][89a-fA-F]", body):
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
        _require_shallow(found)
    except RecursionError:
        raise Refusal(400, "the request is nested too deeply") from None
    except UnicodeError:
        raise Refusal(400, "the request is no JSON in UTF-8") from None
    except ValueError as error:
        raise Refusal(400, f"the request is no JSON: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise Refusal(400, f"the request is a JSON {type(found).__name__}: give an object")
    return found


def _require_shallow(value: Any) -> None:
    """Raise RecursionError for a value of JSON that is nested deeper than any request; Python 3.13 reads such."""
    values = [value]
    for _ in range(DEEPEST):
        parts = [one.values() if isinstance(one, dict) else one for one in values if isinstance(one, dict | list)]
        values = [one for part in parts for one in part]
    if values:
        raise RecursionError


def _read_float(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{shorten(text, 20)} is no number that can be used")


def read_chat_request(body: Mapping[str, Any], model: str, limits: Limits) -> ChatRequest:
    """Read a chat completion for the model of this name; raises Refusal."""
    _require_model(body, model)
    for name, value in body.items():
        harmless = any(type(one) is type(value) and one == value for one in _likenesses(HARMLESS.get(name, ())))
        if name not in FOLLOWED and value is not None and not harmless:
            raise Refusal(400, f"{name} is not followed here: leave it out", name)
    stream, options = body.get("stream") or False, body.get("stream_options") or {}
    if not isinstance(stream, bool) or not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise Refusal(400, "stream is true or false, and stream_options may hold include_usage", "stream")
    with _refusing("messages"):
        asked = read_chat(_translate(body.get("messages"), limits))
    require_short(asked.question or "", field="messages")
    sound = asked.audio
    assert isinstance(sound, bytes | str)
    return ChatRequest(sound, asked.question, stream, options.get("include_usage") is True, _read_count(body))


def _likenesses(values: tuple[Any, ...]) -> Iterator[Any]:
    """Yield values, and numbers as integers and as floats: 1 and 1.0, but not true."""
    for value in values:
        yield value
        if type(value) is int:
            yield float(value)


def _require_model(body: Mapping[str, Any], model: str) -> None:
    if body.get("model") != model:
        status = 404 if isinstance(body.get("model"), str) else 400
        raise Refusal(status, f"model has to be {model!r}, which answers here", "model")


def _read_count(body: Mapping[str, Any]) -> int | None:
    """Return the most tokens of an answer, by either name."""
    for name in ("max_completion_tokens", "max_tokens"):
        count = body.get(name)
        if count is not None:
            if type(count) is not int or count < 1:
                raise Refusal(400, f"{name} has to be a whole number from 1", name)
            return count
    return None


@contextmanager
def _refusing(field: str) -> Iterator[None]:
    """Turn a ValueError about what a field holds into a Refusal."""
    try:
        yield
    except Refusal:
        raise
    except ValueError as error:
        raise Refusal(400, one_line(error), field) from error


def _translate(messages: Any, limits: Limits) -> Any:
    """Return messages with OpenAI's parts in the form of `read_chat`; what is no message is left to it."""
    if not isinstance(messages, list):
        return messages
    return [
        {**one, "content": [_translate_part(part, limits) for part in one["content"]]}
        if isinstance(one, dict) and isinstance(one.get("content"), list)
        else one
        for one in messages
    ]


def _translate_part(part: Any, limits: Limits) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" or not isinstance(part, dict):
        return part
    if kind not in ("input_audio", "audio_url"):
        raise Refusal(400, f"a part of type {kind!r} is not followed here: give text, input_audio, audio_url")
    inner = part.get(kind)
    key = "data" if kind == "input_audio" else "url"
    value = inner.get(key) if isinstance(inner, dict) else None
    if not isinstance(value, str):
        raise Refusal(400, f"a part of type {kind!r} holds no {kind}.{key}")
    sound = decode_base64(value, "input_audio.data") if kind == "input_audio" else check_url(value, limits.hosts)
    return {"type": "audio", "audio": sound}


def check_url(url: str, hosts: frozenset[str]) -> bytes | str:
    """Return what a `data:` URL holds, or a URL that may be fetched as it is; raises Refusal."""
    if url[:5].lower() == "data:":
        return decode_data_url("data:" + url[5:])
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise Refusal(400, "audio_url.url is no URL") from None
    asked = {host, f"{host}:{port}"} if port in (None, 80, 443) else {f"{host}:{port}"}
    if parts.scheme not in ("http", "https") or parts.username is not None or not asked & hosts:
        raise Refusal(400, "audio_url may only hold data: URLs" + (" and URLs of allowed hosts" if hosts else ""))
    if not re.fullmatch(r"[!-~]+", url):
        raise Refusal(400, "audio_url.url holds characters that no URL has")
    return url


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it may lead to a host that is not allowed."""

    def redirect_request(self, *_: Any) -> None:
        """Make no other request, so that the redirection is an error."""


def fetch(url: str, most_bytes: int) -> bytes:
    """Return what an allowed URL holds; raises Refusal."""
    try:
        with urllib.request.build_opener(_Stay).open(url, timeout=FETCH_TIMEOUT_S) as response:
            content = read_in_time(response, most_bytes + 1)
    except urllib.error.HTTPError as error:
        raise Refusal(400, f"the audio_url answers with {error.code}, and no redirection is followed") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Refusal(400, f"the audio_url cannot be fetched: {one_line(error)}") from None
    if len(content) > most_bytes:
        raise Refusal(413, f"the audio_url holds more than {most_bytes} bytes")
    return content


def read_in_time(response: http.client.HTTPResponse, most_bytes: int) -> bytes:
    """Return at most so many bytes of what a server sends; raises OSError where less than announced comes, or slowly.

    A timeout by itself begins again with each byte, and each slow one would keep a thread from others.
    """
    announced, deadline = response.length, time.monotonic() + FETCH_S
    content = bytearray()
    while len(content) < most_bytes and (piece := response.read1(min(2**16, most_bytes - len(content)))):
        content += piece
        if time.monotonic() > deadline:
            raise OSError(f"it takes longer than {FETCH_S:g} s")
    if announced is not None and len(content) < min(announced, most_bytes):
        raise OSError("it ended early")
    return bytes(content)


def read_decision_request(body: Mapping[str, Any], model: str) -> DecisionRequest:
    """Read a System One request for the model of this name, whose state is the sound; raises Refusal."""
    _require_model(body, model)
    if unknown := sorted(body.keys() - {"model", "state", "questions", "assets"}):
        raise Refusal(400, f"{unknown[0]} is not followed here: leave it out", unknown[0])
    questions, assets, state = body.get("questions"), body.get("assets") or {}, body.get("state")
    if not isinstance(questions, dict) or not 1 <= len(questions) <= MOST_QUESTIONS:
        raise Refusal(400, f"questions has to hold 1 to {MOST_QUESTIONS} questions by name", "questions")
    for question in questions.values():
        require_short(options=list_texts(question), field="questions")
    if not isinstance(assets, dict):
        raise Refusal(400, "assets has to hold assets by name", "assets")
    asset = assets.get(state) if isinstance(state, str) else state
    if assets.keys() - {state if isinstance(state, str) else None}:
        raise Refusal(400, "assets holds what the state does not name: give one recording", "assets")
    if not isinstance(asset, dict) or not isinstance(asset.get("data_base64"), str):
        raise Refusal(400, "the state has to be an audio asset, or to name one: {type, format, data_base64}", "state")
    if asset.get("type", AUDIO) != AUDIO:
        raise Refusal(400, f"the asset is of type {asset['type']!r}: only audio can be heard", "assets")
    with _refusing("assets"):
        return DecisionRequest(decode_base64(asset["data_base64"], "data_base64"), questions)


def require_short(question: str = "", options: Iterable[str] = (), field: str | None = None) -> None:
    """Raise Refusal for a question that is too long to be asked, by itself or with its options."""
    named = list(options)
    if any(len(option) > LONGEST_TEXT for option in named):
        raise Refusal(400, f"an option or another text of a typed question has over {LONGEST_TEXT} characters", field)
    if len(question) + sum(map(len, named)) > LONGEST_QUESTION:
        raise Refusal(400, f"the question is longer than {LONGEST_QUESTION} characters", field)


def list_texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value of JSON, the names in objects too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for name, one in value.items() for text in (name, *list_texts(one)))
    elif isinstance(value, list):
        yield from (text for one in value for text in list_texts(one))


def hear(sound: bytes | str, extractor: Any, limits: Limits, count: int | None) -> list[Window]:
    """Return the windows in which something is heard, as `descant ask` reads them; raises Refusal.

    extractor: the model's feature extractor. count: of a long recording, at most so many.
    """
    content = fetch(sound, limits.bytes) if isinstance(sound, str) else sound
    recording, read = as_recording(content, None, extractor)
    try:
        if content:
            _require_short(content, limits.sound_s)
        found = list(as_track(read, count)(recording.path, extractor.sampling_rate, extractor.window_s))
        if not found:
            raise AudioError(AUDIO, "is silent in all windows that are heard")
        return found
    except AudioError as error:
        raise Refusal(422, f"{AUDIO}: {error.reason}") from error


def _require_short(content: bytes, most_s: float) -> None:
    """Decode a file's content until it lasts longer than allowed; raises AudioError."""
    seconds = 0.0
    for samples, rate in read_blocks(BytesIO(content), AUDIO):
        seconds += len(samples) / rate
        if seconds > most_s:
            raise AudioError(AUDIO, f"lasts longer than {most_s:g} s, the longest that is heard here")

"""Any audio model behind an OpenAI-compatible endpoint: patient requests, their cost, and no key in any message."""

import base64
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from descant.data.audio import AudioError, load_audio
from descant.data.sources import open_sound
from descant.data.storage import Source, name_source
from descant.evaluation.choosing import CONTROL_RATE, Asked, Choice, letter_options, read_decision, read_letter, to_wav
from descant.evaluation.multiple_choice import as_choice
from descant.program import name_error, shorten

log = logging.getLogger(__name__)

ATTEMPTS, FIRST_WAIT_S, LONGEST_WAIT_S = 6, 1.0, 300.0
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
FATAL = (401, 402, 403, 404)  # every other request would get the same
UNHEARD = 422  # the sound was read, and nothing can be said about it
FAILURES_IN_A_ROW = 3  # of requests that were tried so often: then the server counts as gone
LARGEST_ANSWER = 2**24
LONGEST_REASON = 300
DECISIONS_AT_ONCE = 64


class EndpointError(ValueError):
    """The endpoint will answer nothing more; the message is one sentence."""


class RequestError(ValueError):
    """One request was not answered, others may be. `unheard`: because of what is in the sound."""

    def __init__(self, message: str, unheard: bool = False) -> None:
        super().__init__(message)
        self.unheard = unheard


@dataclass
class Usage:
    """What was asked for: requests that were sent, those that were repeats, tokens as the endpoint counts them."""

    requests: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, retry: bool) -> None:
        """Count a request."""
        with self.lock:
            self.requests += 1
            self.retries += retry

    def add_tokens(self, usage: Any) -> None:
        """Count the tokens of an answer, by OpenAI's names or those of System One."""
        if not isinstance(usage, Mapping):
            return
        counts = [usage.get(one) or usage.get(other) for one, other in
                  (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))]  # fmt: skip
        read, written = (number if isinstance(number, int) else 0 for number in counts)
        with self.lock:
            self.input_tokens += read
            self.output_tokens += written

    def to_record(self, price_in: float | None, price_out: float | None) -> dict[str, Any]:
        """Return the counts, with the price of this run where prices of a million tokens are given."""
        price = None
        if price_in is not None or price_out is not None:
            price = (self.input_tokens * (price_in or 0.0) + self.output_tokens * (price_out or 0.0)) / 1e6
        return {
            "requests": self.requests, "retries": self.retries, "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens, "price": price,
        }  # fmt: skip


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected request would carry the key to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Endpoint:
    """An OpenAI-compatible server, asked about one sound at a time; several threads may ask."""

    def __init__(self, url: str, model: str, key: str | None = None, timeout_s: float = 120.0) -> None:
        """Prepare to ask.

        Args:
            url: the base that OpenAI's clients take, such as `http://127.0.0.1:8000/v1`.
            model: the model's name there.
            key: sent as a bearer token, and shown nowhere.
            timeout_s: seconds without an answer after which a request is repeated.

        Raises:
            ValueError: the URL is none of http or https, or holds a password.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("--endpoint: give http://HOST/v1 or https://HOST/v1, and the key in the environment")
        self.url, self.model, self.timeout_s, self.usage = url.rstrip("/"), model, timeout_s, Usage()
        self._key, self._failures = key, 0
        self._opener = urllib.request.build_opener(_NoRedirects)

    def ask(self, sound: bytes, kind: str, text: str) -> str:
        """Return what is answered to a question about a sound ("wav" or "mp3"); raises RequestError, EndpointError."""
        audio = {"data": base64.b64encode(sound).decode(), "format": kind}
        content = [{"type": "input_audio", "input_audio": audio}, {"type": "text", "text": text}]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], "temperature": 0}
        answer = self._post("chat/completions", body)
        try:
            said = answer["choices"][0]["message"].get("content")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise RequestError("the answer is no chat completion") from error
        parts = said if isinstance(said, list) else [said]
        return "".join(str(one.get("text") or "") if isinstance(one, dict) else str(one or "") for one in parts)

    def decide(self, sound: bytes, kind: str, questions: Mapping[str, Any]) -> dict[str, Any]:
        """Return the typed answers of a `descant serve`; raises RequestError, EndpointError."""
        asset = {"type": "audio", "format": kind, "data_base64": base64.b64encode(sound).decode()}
        body = {"model": self.model, "questions": dict(questions), "state": "track", "assets": {"track": asset}}
        answers = self._post("systemone", body).get("answers")
        if not isinstance(answers, dict) or not questions.keys() <= answers.keys():
            raise RequestError("the answer has no typed answers")
        return answers

    def _post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request until it is answered, is refused, or was sent ATTEMPTS times."""
        request = urllib.request.Request(f"{self.url}/{route}", json.dumps(body).encode(), method="POST")
        request.add_header("Content-Type", "application/json")
        if self._key:
            request.add_header("Authorization", f"Bearer {self._key}")
        reason, wait_s = "", FIRST_WAIT_S
        for attempt in range(ATTEMPTS):
            self.usage.add(retry=attempt > 0)
            try:
                with self._opener.open(request, timeout=self.timeout_s) as response:
                    answer = _parse(response.read(LARGEST_ANSWER))
                self._failures = 0
                self.usage.add_tokens(answer.get("usage"))
                return answer
            except urllib.error.HTTPError as error:
                reason, asked_s = self._explain(error), read_wait(error.headers.get("Retry-After"))
            except (OSError, HTTPException, ValueError) as error:
                reason, asked_s = self._hide(name_error(error)), 0.0
            if attempt + 1 < ATTEMPTS:
                self._wait(max(wait_s, asked_s), reason)
                wait_s *= 2
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            raise EndpointError(f"{self.url} does not answer ({reason}): run again later, answers so far are kept")
        raise RequestError(f"not answered in {ATTEMPTS} attempts ({reason})")

    def _explain(self, error: urllib.error.HTTPError) -> str:
        """Return why a request is to be sent again; raises RequestError or EndpointError where it is not."""
        with error:
            said = self._hide(_read_reason(error))
        reason = f"status {error.code}: {said}" if said else f"status {error.code}"
        if error.code in FATAL:
            raise EndpointError(f"{self.url} refuses every request ({reason})")
        if error.code in TRANSIENT:
            self._failures = 0 if error.code == 429 else self._failures
            return reason
        raise RequestError(said if error.code == UNHEARD and said else reason, error.code == UNHEARD)

    def _wait(self, seconds: float, reason: str) -> None:
        if seconds > LONGEST_WAIT_S:
            raise EndpointError(
                f"{self.url} asks to wait {seconds:.0f} s ({reason}): run again then, answers are kept"
            )
        log.info("%s: %s; asking again in %.3g s", self.url, reason, seconds)
        time.sleep(seconds)

    def _hide(self, text: str) -> str:
        """Return a message of bounded length, without the key, which some servers repeat."""
        return shorten(text.replace(self._key, "…") if self._key else text, LONGEST_REASON)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except RecursionError:
        raise ValueError("the answer is nested too deeply") from None
    if not isinstance(answer, dict):
        raise ValueError("the answer is no JSON object")
    return answer


def _read_reason(error: urllib.error.HTTPError) -> str:
    """Return what a refusal says, in OpenAI's form or another."""
    text = error.read(LARGEST_ANSWER).decode("utf-8", "replace")
    try:
        said = json.loads(text)
        said = said.get("error", said) if isinstance(said, dict) else said
        text = said.get("message", text) if isinstance(said, dict) else str(said)
    except (ValueError, RecursionError):
        pass
    return " ".join(str(text).split())


def read_wait(header: str | None) -> float:
    """Return the seconds of a Retry-After header, a number or a date; 0 where it is neither."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def read_key(variable: str) -> str | None:
    """Return the key that an environment variable holds; None: there is none, as for a server of one's own."""
    return os.environ.get(variable, "").strip() or None


def read_upload(audio: Source) -> tuple[bytes, str]:
    """Return a sound as it is sent, and its kind: WAV and MP3 as they are, others as mono WAV at 16 kHz.

    Raises AudioError.
    """
    if isinstance(audio, bytes):
        content = audio
    else:
        with open_sound(audio) as opened:
            content = opened.file.read()
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return content, "wav"
    if content[:3] == b"ID3" or is_mpeg_frame(content[:2]):
        return content, "mp3"
    return to_wav(load_audio(audio, CONTROL_RATE)), "wav"


def is_mpeg_frame(start: bytes) -> bool:
    """Return whether two bytes begin a frame of MPEG audio; AAC's, of the same eleven bits, names no layer."""
    return len(start) == 2 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0 and start[1] & 0x06 != 0


class EndpointChooser:
    """A model behind an endpoint, asked for a letter; a `descant serve` may be asked for probabilities."""

    def __init__(self, endpoint: Endpoint, by_words: bool = True, workers: int = 4) -> None:
        """Prepare to ask. workers: how many requests are under way at a time."""
        self.endpoint, self.name, self.by_words, self.workers = endpoint, endpoint.model, by_words, workers
        self.fingerprint = f"{endpoint.url} {endpoint.model} {'words' if by_words else 'probabilities'}"

    def choose(self, audio: Source, asked: Sequence[Asked]) -> list[Choice]:
        """Answer questions about a sound; see `Chooser`. Raises EndpointError."""
        try:
            sound, kind = read_upload(audio)
        except AudioError as error:
            return [Choice(error=f"{name_source(audio)}: {error.reason}")] * len(asked)
        if self.by_words:
            return [self._say(sound, kind, one) for one in asked]
        parts = [asked[start : start + DECISIONS_AT_ONCE] for start in range(0, len(asked), DECISIONS_AT_ONCE)]
        return [choice for part in parts for choice in self._decide(sound, kind, part)]

    def _say(self, sound: bytes, kind: str, asked: Asked) -> Choice:
        try:
            return read_letter(self.endpoint.ask(sound, kind, asked.prompt), asked.options)
        except RequestError as error:
            return Choice(said=str(error)) if error.unheard else Choice(error=str(error))

    def _decide(self, sound: bytes, kind: str, asked: Sequence[Asked]) -> list[Choice]:
        questions = {str(n): as_choice(one.question, letter_options(one.options)) for n, one in enumerate(asked)}
        try:
            decided = self.endpoint.decide(sound, kind, questions)
        except RequestError as error:
            return [Choice(said=str(error)) if error.unheard else Choice(error=str(error))] * len(asked)
        return [read_decision(decided[name]) for name in questions]

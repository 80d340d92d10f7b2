"""What became of a clip, told from the words and codes of yt-dlp and ffmpeg."""

import re
from dataclasses import dataclass

OK, PRIVATE, REMOVED, AGE, GEO = "ok", "private", "removed", "age", "geo"
BLOCKED, NETWORK, BAD_AUDIO = "blocked", "network", "bad audio"
STATUSES = (OK, PRIVATE, REMOVED, AGE, GEO, BLOCKED, NETWORK, BAD_AUDIO)
# These say nothing about the clip: a later attempt may well succeed.
TRANSIENT = (BLOCKED, NETWORK)

_BROKEN = re.compile(r"ends prematurely|connection reset|i/o error|input/output error|timed out", re.IGNORECASE)
_HTTP_STATUS = {401: PRIVATE, 403: BLOCKED, 404: REMOVED, 410: REMOVED, 429: BLOCKED, 451: GEO}
# In this order: what YouTube says of a limit or a country also has words that it uses of removed videos, and yt-dlp
# calls a format "not available" where only its JavaScript runtime is missing.
_PHRASES = [
    (BLOCKED, r"not a bot|try again later|rate.?limit|too many requests|captcha"),
    (NETWORK, r"requested format|no video formats"),
    (AGE, r"confirm your age|age.restricted|inappropriate for some users"),
    (GEO, r"in your (country|region|location)|geo.?restrict"),
    (PRIVATE, r"private|members.only|premium members|join this channel|requires payment|granted access"),
    (REMOVED, r"video (is |has been )?(unavailable|not available|no longer available|removed|deleted)"),
    (REMOVED, r"(has been|removed by|account) .*(removed|uploader|terminated|deleted)|does not exist|copyright"),
    (BAD_AUDIO, r"invalid data found|not in (the )?whitelist|no such (audio )?stream|matches no streams"),
]


@dataclass(frozen=True)
class Outcome:
    """A status, what was said, and whether the whole run was told to slow down (perhaps for how long)."""

    status: str
    detail: str = ""
    slow_down: bool = False
    retry_after_s: float | None = None


class FetchError(Exception):
    """A clip that was not got; `outcome` says why."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.detail)
        self.outcome = outcome


def classify_message(message: str) -> Outcome:
    """The outcome that an error message tells; a message that nothing is known of counts as network trouble."""
    detail = _one_line(message)
    # What a broken connection leaves behind may also be undecodable, which is then no fault of the recording.
    if is_broken_transfer(message):
        return Outcome(NETWORK, detail)
    status = re.search(r"\bHTTP error (\d{3})\b", detail, re.IGNORECASE)
    if status:
        return classify_http_status(int(status[1]), detail)
    text = detail.replace("’", "'").lower()
    for status, pattern in _PHRASES:
        if re.search(pattern, text):
            return Outcome(status, detail, slow_down=status == BLOCKED)
    return Outcome(NETWORK, detail)


def is_broken_transfer(message: str) -> bool:
    """Whether ffmpeg's words tell of a body that did not arrive whole."""
    return bool(_BROKEN.search(message))


def classify_http_status(status: int, message: str, retry_after: str | None = None) -> Outcome:
    """The outcome of an HTTP error; `retry_after` is that header, of which whole seconds are understood."""
    told = float(retry_after) if retry_after and retry_after.isdigit() else None
    return Outcome(_HTTP_STATUS.get(status, NETWORK), _one_line(message), slow_down=status == 429, retry_after_s=told)


def _one_line(message: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR:")
    # A signed address holds the caller's own, and numbers that read like a status.
    plain = re.sub(r"https?://\S+", "<address>", plain)
    return " ".join(plain.split())[:300]

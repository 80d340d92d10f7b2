"""What a model folder says of itself: the facts that its card states."""

import logging
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

log = logging.getLogger(__name__)


class PublishError(ValueError):
    """A folder that cannot be published, or a Hub that refuses it; the message is one sentence for the user."""


Result = TypeVar("Result")


# The class above all network errors of the client: httpx's in huggingface_hub 1, httpx2's in 2.
NetworkError = HfHubHTTPError.__mro__[1]


TRANSIENT = (408, 429, 500, 502, 503, 504)


DENIED = (401, 402, 403)


WAITS_S = (1, 2, 4, 8, 16, 32)


def _patiently(call: Callable[[], Result], api: HfApi, repo_id: str) -> Result:
    """The result of `call`, tried again after errors that pass: 429, 5xx, broken connections."""
    for wait in (*WAITS_S, None):
        try:
            return call()
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in DENIED or isinstance(error, RepositoryNotFoundError):
                raise _denied(api, repo_id) from error
            if status not in TRANSIENT:
                raise PublishError(f"{api.endpoint} refused {repo_id}: {_first_line(error)}") from error
            problem: Exception = error
        except NetworkError as error:
            problem = error
        if wait is None:
            raise PublishError(
                f"{api.endpoint} could not be reached for {repo_id} in {len(WAITS_S) + 1} attempts "
                f"({_first_line(problem)}): nothing was published, try again later"
            ) from problem
        log.warning("%s: %s; trying again in %d s", repo_id, _first_line(problem), wait)
        sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _denied(api: HfApi, repo_id: str) -> PublishError:
    return PublishError(
        f"no permission to write to {repo_id} on {api.endpoint}: log in with a token that may write there "
        "(`hf auth login`, or HF_TOKEN), or choose a repository of yours"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

"""Which licence a model may be published under, by the licences of what it was trained on and joined from."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from descant.publish.facts import PublishError

NON_COMMERCIAL = "cc-by-nc-4.0"
SHARE_ALIKE = "cc-by-sa-4.0"
PERMISSIVE = "apache-2.0"
# Words that datasets' cards use where they name no licence.
UNNAMED = ("", "unknown", "other", "none")


def choose_licence(
    datasets: Sequence[Mapping[str, Any]] | None, wanted: str | None = None, parts: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The licence of the model's repository.

    Args:
        datasets: entries of `training_data.json`, also those inherited from the model it began from; None where there
            is no such record.
        wanted: what the user asks for; None takes the strictest that data and parts ask for.
        parts: ids and licences of the models that it is joined from.

    Raises:
        PublishError: data or a part for non-commercial use, and a licence that allows more; or data or a part of
            unnamed licence, and none asked for.
    """
    named = {str(entry.get("id")): normalize(entry.get("licence")) for entry in datasets or []}
    closed = ["trained on " + name for name, licence in sorted(named.items()) if is_non_commercial(licence)]
    closed += ["joined from " + part["id"] for part in parts if is_non_commercial(normalize(part["licence"]))]
    if closed:
        if wanted is not None and not is_non_commercial(normalize(wanted)):
            raise PublishError(
                f"the model was {', '.join(closed)}, for non-commercial use only: it cannot be published as {wanted}; "
                f"leave the licence out to publish it as {NON_COMMERCIAL}"
            )
        return normalize(wanted) if wanted else NON_COMMERCIAL
    if wanted:
        return normalize(wanted)
    licences = named | {part["id"]: normalize(part["licence"]) for part in parts}
    unnamed = sorted(name for name, licence in licences.items() if licence in UNNAMED)
    if unnamed or not named:
        source = f"the licence of {', '.join(unnamed)}" if unnamed else "what the model was trained on"
        raise PublishError(f"nothing says {source}: give the model's licence, such as --license {PERMISSIVE}")
    return SHARE_ALIKE if any(re.search(r"\bsa\b", licence) for licence in licences.values()) else PERMISSIVE


def normalize(licence: Any) -> str:
    """The Hub's spelling: "CC BY-NC 4.0" → "cc-by-nc-4.0"; of several, all are kept."""
    several = licence if isinstance(licence, list | tuple) else [licence or ""]
    return ", ".join(re.sub(r"[\s_]+", "-", str(one).strip().lower()) for one in several)


def is_non_commercial(licence: str) -> bool:
    return re.search(r"\bnc\b|non-?commercial", licence) is not None

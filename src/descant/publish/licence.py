"""Which licence a model may be published under, by the licences of what it was trained on and joined from."""

import logging
import re
from collections.abc import Mapping, Sequence
from os.path import exists
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from descant.hub_client import PublishError
from descant.models import box

log = logging.getLogger(__name__)

NON_COMMERCIAL = "cc-by-nc-4.0"
SHARE_ALIKE = "cc-by-sa-4.0"
BOTH = "cc-by-nc-sa-4.0"
PERMISSIVE = "apache-2.0"
# Licences that leave open under which one what is made from the data is published.
FREE = re.compile(r"apache-2\.0|mit|isc|zlib|unlicense|bsd.*|cc0.*|cc-by(-\d\.\d)?|pddl|odc-by|cdla-permissive.*")
# Words that datasets' cards use where they name no licence.
UNNAMED = ("", "unknown", "other", "none")


def choose_licence(
    datasets: Sequence[Mapping[str, Any]] | None, wanted: str | None = None, parts: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return the licence of the model's repository.

    Args:
        datasets: entries of `training_data.json`, also those inherited from the model it began from; None where there
            is no such record.
        wanted: what the user asks for; None takes the strictest that data and parts ask for.
        parts: ids and licences of the models that it is joined from.

    Raises:
        PublishError: data or a part for non-commercial use, or share-alike, and a licence that allows more; or data
            or a part under another licence than the free ones, or under none, and no licence asked for.
    """
    sources = [("trained on", str(entry.get("id")), normalize(entry.get("licence"))) for entry in datasets or []]
    sources += [("joined from", part["id"], normalize(part["licence"])) for part in parts]
    chosen = normalize(wanted) if wanted else None
    terms = (
        (lambda one: is_non_commercial(one) and is_share_alike(one), "for non-commercial use and share-alike", BOTH),
        (is_non_commercial, "for non-commercial use only", NON_COMMERCIAL),
        (is_share_alike, "under share-alike terms", SHARE_ALIKE),
    )
    for binds, why, default in terms:
        bound = sorted({f"{made} {name}" for made, name, licence in sources if binds(licence)})
        if bound and chosen and not binds(chosen):
            raise PublishError(
                f"the model was {', '.join(bound)}, {why}: it cannot be published as {chosen}; leave the licence out "
                f"to publish it as {default}"
            )
        if bound and (chosen or default != SHARE_ALIKE):
            return chosen or default
    if chosen:
        return chosen
    names = {(name, licence) for _, name, licence in sources}
    _refuse_open(names, recorded=bool(datasets))
    return SHARE_ALIKE if any(is_share_alike(licence) for _, licence in names) else PERMISSIVE


def _refuse_open(names: set[tuple[str, str]], recorded: bool) -> None:
    """Raise PublishError where the licence is for the user to choose, by (name, licence) of data and parts."""
    unnamed = sorted(name for name, licence in names if licence in UNNAMED)
    if unnamed or not recorded:
        source = f"the licence of {', '.join(unnamed)}" if unnamed else "what the model was trained on"
        raise PublishError(f"nothing says {source}: give the model's licence, such as --license {PERMISSIVE}")
    unjudged = sorted(f"{name} ({licence})" for name, licence in names if not _is_known(licence))
    if unjudged:
        raise PublishError(
            f"what the licence of {', '.join(unjudged)} asks of a model is for you to judge: give the model's licence "
            "with --license"
        )


def _is_known(licence: str) -> bool:
    return all(FREE.fullmatch(one) or is_share_alike(one) for one in licence.split(", "))


def normalize(licence: Any) -> str:
    """Return a licence in the Hub's spelling: "CC BY-NC 4.0" → "cc-by-nc-4.0"; of several, all are kept."""
    several = licence if isinstance(licence, list | tuple) else [licence or ""]
    return ", ".join(re.sub(r"[\s_]+", "-", str(one).strip().lower()) for one in several)


def is_non_commercial(licence: str) -> bool:
    """Return whether a normalized licence is for non-commercial use only."""
    return re.search(r"\bnc\b|non-?commercial", licence) is not None


def is_share_alike(licence: str) -> bool:
    """Return whether a normalized licence asks for the same licence of what is made from it."""
    return re.search(r"\bsa\b|share-?alike", licence) is not None


HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
OURS = "descant/"  # ids of what comes with descant, which no repository has


def is_hub_id(name: str) -> bool:
    """Return whether a name can be a repository on the Hub: `owner/name`, and no file or folder here."""
    return HUB_ID.fullmatch(name) is not None and not exists(name) and not name.startswith(OURS)


def public_name(value: Any) -> Any:
    """Return a value without the folders of this machine: of a path on it, the last name, of the box its id."""
    if value == str(box.FOLDER):
        return OURS + box.NAME
    if isinstance(value, str) and "/" in value and not is_hub_id(value) and not value.startswith(OURS):
        return Path(value).name
    return value


# Music encoders whose weights are for non-commercial use, known also where the Hub is out of reach.
KNOWN_LICENCES = {
    "m-a-p/MERT-v1-95M": "cc-by-nc-4.0",
    "m-a-p/MERT-v1-330M": "cc-by-nc-4.0",
    "musicnn": "isc",
}


def describe_part(name: str) -> dict[str, Any]:
    """Return `id` and `licence` of a part, a Hub id or folder, as this machine knows; None where nothing says it."""
    return {"id": name, "licence": KNOWN_LICENCES.get(name) or _read_card(name)}


def _read_card(name: str) -> Any:
    """Return the licence on a folder's card, or on that of a repository whose card was fetched before."""
    try:
        card = Path(name) / "README.md" if exists(name) else try_to_load_from_cache(name, "README.md")
    except HFValidationError:  # a path of another machine
        return None
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    try:
        return load_card(Path(card)).data.get("license")
    except PublishError as error:  # another's card, which is asked for nothing but its licence
        log.warning("%s", error)
        return None


def load_card(path: Path) -> ModelCard:
    """Read a README.md; raise PublishError, which names it, where it is no text or its metadata are no YAML."""
    try:
        return ModelCard.load(path, ignore_metadata_errors=True)
    except Exception as error:  # of the YAML that somebody wrote: errors of a dozen kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PublishError(f"{path} cannot be read as a card ({reason}): mend it or remove it") from error


def complete_licences(parts: Sequence[dict[str, Any]], api: HfApi) -> list[dict[str, Any]]:
    """Return the same parts, with the licences that only the Hub knows; None stays where it knows of none either."""
    return [part | {"licence": part["licence"] or _ask_hub(part["id"], api)} for part in parts]


def is_on_hub(name: str, api: HfApi) -> bool:
    """Return whether the Hub has such a model, and gives it to whoever asks here."""
    try:
        api.model_info(name)
    except (RepositoryNotFoundError, HFValidationError):
        return False
    return True


def _ask_hub(name: str, api: HfApi) -> Any:
    if exists(name):
        return None
    try:
        card = api.model_info(name).card_data
    except (RepositoryNotFoundError, HFValidationError):  # private, gated or gone: its licence is not for us to read
        return None
    return card and card.license

"""The licences of the models that a published one is joined from and does not hold itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

# Music encoders whose weights are for non-commercial use, known also where the Hub is out of reach.
KNOWN_LICENCES = {"m-a-p/MERT-v1-95M": "cc-by-nc-4.0", "m-a-p/MERT-v1-330M": "cc-by-nc-4.0"}


def describe_part(name: str) -> dict[str, Any]:
    """`id` and `licence` of a part, a Hub id or folder, from what this machine has; None where nothing says it."""
    return {"id": name, "licence": KNOWN_LICENCES.get(name) or _read_card(name)}


def _read_card(name: str) -> Any:
    """The licence on a folder's card, or on that of a repository whose card was fetched before."""
    try:
        card = Path(name) / "README.md" if Path(name).exists() else try_to_load_from_cache(name, "README.md")
    except HFValidationError:  # a path of another machine
        return None
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    return ModelCard.load(card, ignore_metadata_errors=True).data.license


def complete_licences(parts: Sequence[dict[str, Any]], api: HfApi) -> list[dict[str, Any]]:
    """The same parts, with the licences that only the Hub knows; None stays where it knows of none either."""
    return [part | {"licence": part["licence"] or _ask_hub(part["id"], api)} for part in parts]


def is_on_hub(name: str, api: HfApi) -> bool:
    """Whether the Hub has such a model, and gives it to whoever asks here."""
    try:
        api.model_info(name)
    except (RepositoryNotFoundError, HFValidationError):
        return False
    return True


def _ask_hub(name: str, api: HfApi) -> Any:
    if Path(name).exists():
        return None
    try:
        card = api.model_info(name).card_data
    except (RepositoryNotFoundError, HFValidationError):  # private, gated or gone: its licence is not for us to read
        return None
    return card and card.license

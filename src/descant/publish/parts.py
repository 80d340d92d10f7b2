"""The licences of the models that a published one is joined from and does not hold itself."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

# Music encoders whose weights are for non-commercial use, known also where the Hub is out of reach.
KNOWN_LICENCES = {"m-a-p/MERT-v1-95M": "cc-by-nc-4.0", "m-a-p/MERT-v1-330M": "cc-by-nc-4.0"}


def describe_part(name: str) -> dict[str, Any]:
    """`id` and `licence` of a part, a Hub id or folder; the licence is None where its card names none."""
    return {"id": name, "licence": KNOWN_LICENCES.get(name) or read_card_licence(name)}


def read_card_licence(name: str) -> str | list[str] | None:
    """What the card of a folder or Hub repository says; None where there is no card, or no way to it."""
    path = Path(name) / "README.md"
    if Path(name).is_dir() and not path.is_file():
        return None
    try:
        return ModelCard.load(path if path.is_file() else name, ignore_metadata_errors=True).data.license
    except Exception:  # no network, no such repository, no card: each has its own kind, and all mean the same here
        return None

"""Keeps a model folder's results: `scores.json`, and the card that states them."""

import json
import logging
from pathlib import Path
from typing import Any

from descant.file_lock import hold_lock
from descant.publish import PublishError, write_card
from descant.publish.card import MARK
from descant.publish.names import public_name
from descant.whole_files import write_whole

log = logging.getLogger(__name__)
SAME = ("dataset", "config", "split", "protocol")
LOCK_FILE = ".scores.lock"


def update_card(folder: Path, result: dict[str, Any]) -> None:
    """Puts a result in the place of an earlier one on the same data, and writes the card anew.

    A card that its owner has made their own is left alone, and so are results that no card should state: on training
    clips, on leaked clips, on a part of the split. Raises OSError where the folder is not to be written into, and
    ValueError where its scores.json is damaged.
    """
    if result["leak"]["clips"] or result["max_clips"] or result["split"] == "train":
        log.warning("%s: these results measure memory or a part of the split; its card does not state them", folder)
        return
    with hold_lock(folder / LOCK_FILE):  # two evaluations that end together both stay
        keep_result(folder / "scores.json", result)
        card = folder / "README.md"
        if card.is_file() and MARK not in card.read_text(encoding="utf-8"):
            log.warning("%s is your own text and stays as it is; the results stand in scores.json", card)
            return
        try:
            write_card(folder)
        except PublishError as error:
            log.warning("the model card was not updated: %s", error)


def keep_result(path: Path, result: dict[str, Any]) -> None:
    """Writes a result into a scores.json; a pushed one names no path of this machine."""
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    earlier = [earlier] if isinstance(earlier, dict) else earlier
    stated = {name: value for name, value in result.items() if name != "max_clips"}
    stated |= {name: public_name(result[name]) for name in ("model", "dataset")}
    kept = [one for one in earlier if any(one.get(name) != stated[name] for name in SAME)]
    write_whole(path, json.dumps([*kept, stated], indent=2) + "\n")

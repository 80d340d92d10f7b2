"""Captions and facts beside the songs, as trainers of music generators read them: `song.caption.txt`, `song.json`."""

import hashlib
import json
from pathlib import Path
from typing import Any

from descant.collections.facts import Description, sure_facts, write_text
from descant.files import JsonLines, Record, sha256_of, write_whole

KINDS = ("caption", "json")
SUFFIXES = {"caption": ".caption.txt", "json": ".json"}


def write_facts(description: Description, style: str) -> dict[str, Any]:
    """Return what `song.json` holds: each key only where it is sure."""
    facts = sure_facts(description)
    found = {
        "caption": write_text(description, style),
        "bpm": None if facts.bpm is None else round(facts.bpm),
        "keyscale": None if facts.key is None else short_key(facts.key),
        "timesignature": facts.metre,
        "genre": ", ".join(facts.genres),
        "instruments": list(facts.instruments),
        "mood": facts.mood,
    }
    return {name: value for name, value in found.items() if value}


def short_key(key: str) -> str:
    """Return a measured key as it is written in tags and captions: "C# minor" for "C sharp minor"."""
    return key.replace(" sharp", "#").replace(" flat", "b")


class Sidecars:
    """Writes files beside songs, and over none that it did not write itself."""

    def __init__(self, ledger: Path, kinds: frozenset[str], style: str, overwrite: bool = False) -> None:
        """
        ledger: a JSONL file that remembers what was written. kinds: of `KINDS`. overwrite: replace others' files too.
        """
        self.ledger, self.kinds, self.style, self.overwrite = JsonLines(ledger), kinds, style, overwrite
        self.written: dict[str, Record] = {record["path"]: record for record in self.ledger.read()}

    def write(self, description: Description, song: Path) -> list[str]:
        """Write the files of a song; return a sentence for each that was left as it is. Raises OSError."""
        texts = {}
        if "caption" in self.kinds:
            texts["caption"] = write_text(description, self.style) + "\n"
        if "json" in self.kinds:
            facts = write_facts(description, self.style)
            texts["json"] = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
        if description["caption"] is None:  # no music: nothing to learn from
            return []
        refused = (self._write(song.with_suffix(SUFFIXES[kind]), text, song) for kind, text in texts.items())
        return list(filter(None, refused))

    def _write(self, path: Path, text: str, song: Path) -> str | None:
        content = text.encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(content).hexdigest()
        known = self.written.get(str(path))
        if known and known["song"] != str(song) and path.exists():
            return f"{path}: belongs to {known['song']}: two songs of one name cannot both have it"
        if path.exists():
            current = sha256_of(path)
            if current == digest:
                self._remember(path, song, digest)
                return None
            if not self.overwrite and (known is None or known["sha256"] != current):
                return f"{path}: was not written by this job, or was changed since: --overwrite replaces it"
        write_whole(path, content)
        self._remember(path, song, digest)
        return None

    def _remember(self, path: Path, song: Path, digest: str) -> None:
        record = {"path": str(path), "song": str(song), "sha256": digest}
        if self.written.get(str(path)) != record:
            self.written[str(path)] = record
            self.ledger.append(record)

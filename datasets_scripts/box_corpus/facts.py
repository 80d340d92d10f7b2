"""What is known of a clip: of a rendering from its plan, of a real recording from what both ears are sure of."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Words of instrument names → the family that plays a melody; the first that fits.
FAMILIES = {
    "reed": ("sax", "clarinet", "oboe", "bassoon", "english horn", "shanai", "bagpipe"),
    "bass": ("bass",),
    "accordion": ("accordion", "harmonica", "bandoneon", "concertina"),
    "mallet percussion": ("vibraphone", "marimba", "xylophone", "glockenspiel", "celesta", "music box", "bell",
                          "dulcimer", "kalimba", "steel drum"),
    "keyboard": ("piano", "harpsichord", "clavinet", "clavi", "rhodes"),
    "organ": ("organ", "harmonium"),
    "synthesizer": ("synth", "lead", "pad", "sawtooth", "square wave", "calliope"),
    "guitar": ("guitar",),
    "plucked strings": ("banjo", "mandolin", "ukulele", "sitar", "shamisen", "koto", "lute", "bouzouki", "harp",
                        "pizzicato"),
    "strings": ("violin", "viola", "cello", "contrabass", "strings", "fiddle", "string", "erhu"),
    "brass": ("trumpet", "trombone", "horn", "tuba", "brass", "cornet"),
    "flute": ("flute", "recorder", "piccolo", "ocarina", "whistle", "shakuhachi", "bottle"),
    "voice": ("choir", "voice", "vocal", "aahs", "oohs"),
}  # fmt: skip
# Instruments of which a yes or no is asked → words of the names that count as one.
PRESENCE = {
    "piano": ("piano",), "organ": ("organ",), "accordion": ("accordion", "bandoneon"),
    "guitar": ("guitar",), "acoustic guitar": ("acoustic guitar", "nylon guitar", "steel guitar", "nylon", "steel"),
    "electric guitar": ("electric guitar", "distorted guitar", "distortion guitar", "overdriven guitar", "jazz guitar",
                        "clean guitar", "muted guitar"),
    "violin": ("violin", "fiddle"),
    "strings": ("violin", "viola", "cello", "strings", "fiddle", "contrabass", "string ensemble"),
    "brass": ("trumpet", "trombone", "french horn", "tuba", "brass", "cornet"), "trumpet": ("trumpet", "cornet"),
    "saxophone": ("sax",), "flute": ("flute", "piccolo", "recorder"), "clarinet": ("clarinet",),
    "synthesizer": ("synth", "sawtooth", "square wave"), "harp": ("harp",),
}  # fmt: skip
NOT_COUNTED = {"harp": ("harpsichord",), "piano": ("electric piano",), "organ": ("mouth organ",),
               "synthesizer": ("synth bass",), "guitar": ("guitar bass",)}  # fmt: skip
ELECTRONIC = ("synth", "sawtooth", "square wave", "pad", "electronic drums", "drum machine")
ACOUSTIC_ONLY = ("electric", "synth", "organ", "distort", "overdriven", "sawtooth", "square", "pad", "rhodes")
VOICES = FAMILIES["voice"]


@dataclass
class Known:
    """A clip and what is known of it; None, or nothing: unknown. `presence`: instrument → whether it plays."""

    clip_id: str
    audio: Path
    split: str
    rendered: bool
    music: bool = True
    style: str | None = None  # of a rendering, from its plan: its groove's genre, or "solo"
    genre: str | None = None
    classical: bool | None = None
    mood: str | None = None
    energy: str | None = None
    tempo_class: str | None = None
    metre: str | None = None
    vocals: bool | None = None
    voice: str | None = None  # female, male or none
    instruments: list[str] = field(default_factory=list)
    audible: list[str] = field(default_factory=list)  # those of them that can be heard
    lead_instrument: str | None = None
    lead_family: str | None = None
    drums: bool | None = None
    bass: str | None = None
    electronic: str | None = None
    presence: dict[str, bool] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)  # of a rendering's facts, those that the ears' tags say too


def read_demo(folder: Path) -> Iterator[Known]:
    """Read the embedded corpus: its training clips alone, a tenth of them to validate on."""
    with (folder / "facts.csv").open(encoding="utf-8") as file:
        training = [record for record in csv.DictReader(file) if record["split"] == "train"]
    for number, record in enumerate(training):
        split = "validation" if number % 10 == 9 else "train"
        fields = record | {"split": split, "instruments": record["instruments"].split("; "), "kind": "rendered"}
        yield read_record(fields, folder / "audio" / f"{record['clip_id']}.ogg")


def read_facts(path: Path) -> Iterator[Known]:
    """Read `facts.jsonl`; of a file that is being written, the whole lines, and the clips whose sound is there."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        audio = (path.parent / record["file"]).resolve()  # rows.jsonl lies in another folder
        if audio.exists():
            yield read_record(record, audio)


def read_record(record: Mapping[str, Any], audio: Path) -> Known:
    """Return what one record says."""
    known = Known(record["clip_id"], audio, record["split"], record["kind"] == "rendered")
    known.music = record["kind"] in ("rendered", "real")
    if not known.rendered:
        return known
    known.style = record.get("genre") or ("solo" if record.get("solo") else None)
    names = [name.lower() for name in record.get("instruments") or []]
    known.tempo_class, known.metre = record.get("tempo_class"), record.get("metre")
    lead = (record.get("lead_instrument") or "none").lower()
    known.mood, known.lead_instrument = record.get("mood"), None if lead == "none" else lead
    known.lead_family = find_family(lead)
    known.drums, known.bass = read_truth(record.get("drums")), record.get("bass")
    known.instruments = names
    known.energy = find_energy(known.tempo_class, known.drums)
    sung = any(word in name for name in names for word in VOICES)
    known.vocals, known.voice = (None, None) if sung else (False, "none")
    if record.get("vocals"):
        known.vocals, known.voice = True, record["voice"]
    known.presence = {one: is_present(one, names) for one in PRESENCE} if names else {}
    known.electronic = find_electronic(names, known.bass)
    return known


def read_truth(value: Any) -> bool | None:
    """Return yes or no, in whatever form it was written."""
    return value if isinstance(value, bool) or value is None else str(value).lower() in ("yes", "true", "drums")


def find_family(name: str) -> str | None:
    """Return the family of an instrument."""
    fitting = (family for family, words in FAMILIES.items() if any(word in name for word in words))
    return next(fitting, None)


def find_energy(tempo_class: str | None, drums: bool | None) -> str | None:
    """Return how much drive a rendering has: slow without drums is calm, fast with drums is driving."""
    if tempo_class is None or drums is None:
        return None
    level = {"slow": 0, "medium": 1, "fast": 2}[tempo_class] + drums
    return ("calm", "moderate", "moderate", "driving")[level]


def is_present(instrument: str, names: list[str]) -> bool:
    """Return whether one of the names that play is that instrument."""
    counted = [name for name in names if not any(word in name for word in NOT_COUNTED.get(instrument, ()))]
    return any(word in name for name in counted for word in PRESENCE[instrument])


def find_electronic(names: list[str], bass: str | None) -> str | None:
    """Return electronic where a synthesizer plays, acoustic where nothing electric does; else it is open."""
    played = [*names, bass or ""]
    if any(word in name for name in played for word in ELECTRONIC):
        return "electronic"
    electric = any(word in name for name in played for word in ACOUSTIC_ONLY)
    return None if electric or not names else "acoustic"

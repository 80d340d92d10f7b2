"""One clip of the corpus: its sound and the facts about it."""

import functools
import io
import random

import numpy as np
import soundfile
import soxr
from demo_corpus.synth import Synth

from music_corpus.effects import RATE, apply_effects
from music_corpus.instruments import MELODIC
from music_corpus.notes import CLIP_S, Arrangement, Part, arrange
from music_corpus.other import make_other
from music_corpus.plan import ClipPlan
from music_corpus.sounds import soundfont_path

SYNTH_RATE = 32000  # cheaper than 44100; what it folds back lies above the 8 kHz that are kept
SAMPLES = int(CLIP_S * RATE)
VORBIS_COMPRESSION = 0.75  # about 40 kbit/s
LEVELS_DB = {"lead": (-5.0, 0.0), "chords": (-12.0, -3.0), "bass": (-9.0, -1.0), "drums": (-9.0, 0.0)}
MOODS = {"slow": ("peaceful", "sad"), "medium": ("cheerful", "mysterious"), "fast": ("energetic", "energetic")}
UNKNOWN = dict.fromkeys((
    "genre", "subgenre", "groove", "tempo_bpm", "tempo_class", "key", "mode", "metre", "lead_instrument",
    "lead_family", "drums", "bass", "mood", "soundfont", "package", "author",
))  # fmt: skip


def make_clip(plan: ClipPlan) -> tuple[bytes, dict[str, object]]:
    """Return a planned clip as Ogg bytes (10 s, 16 kHz, mono) and its line of facts."""
    if plan.kind == "other":
        sound, kind, title = make_other(plan.seed)
        facts = UNKNOWN | {"kind": kind, "title": title, "instruments": [], "solo": False, "drums": False}
    else:
        arrangement = arrange(plan)
        sound, heard = _mix(plan, arrangement)
        facts = _music_facts(plan, heard)
    effects: list[str] = []
    if facts["kind"] != "silence":
        sound, effects = apply_effects(sound, plan.seed)
    place = {"clip_id": plan.clip_id, "file": f"audio/{plan.clip_id}.ogg", "split": plan.split, "effects": effects,
             "seed": plan.seed, "licence": "Apache-2.0"}  # fmt: skip
    return encode(sound), place | facts


def encode(sound: np.ndarray) -> bytes:
    """Return Ogg/Vorbis bytes of 16 kHz mono samples, which encode and decode in a tenth of Opus's time."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="OGG", subtype="VORBIS", compression_level=VORBIS_COMPRESSION)
    return buffer.getvalue()


def _mix(plan: ClipPlan, arrangement: Arrangement) -> tuple[np.ndarray, list[Part]]:
    """The stems at random levels, each brought to its own by its sounding part; silent ones are dropped."""
    rng = random.Random(f"{plan.seed}/mix")
    start, end_s = round(arrangement.offset_s * RATE), arrangement.offset_s + CLIP_S + 0.1
    mix, heard = np.zeros(SAMPLES, np.float32), []
    for part in arrangement.parts:
        level = rng.uniform(*LEVELS_DB[part.role])
        sound = _synth(plan.soundfont).play(part.track, arrangement.beats_per_minute, end_s)
        sound = soxr.resample(sound, SYNTH_RATE, RATE)[start : start + SAMPLES]
        power = (sound.reshape(-1, 800) ** 2).mean(axis=1)
        if power.max() > 1e-9:
            mix += sound * 10 ** (level / 20) / np.sqrt(power[power > power.max() / 1000].mean())
            heard.append(part)
    return mix, heard


def _music_facts(plan: ClipPlan, heard: list[Part]) -> dict[str, object]:
    groove = plan.groove
    assert groove is not None
    lead = next((part.name for part in heard if part.role == "lead"), "none")
    bass = next((part.name for part in heard if part.role == "bass"), "no bass")
    if plan.kind == "solo" and MELODIC[lead].family == "bass":
        bass = lead
    instruments = list(dict.fromkeys(part.name for part in heard))
    return UNKNOWN | {
        "kind": "rendered", "genre": groove.genre or None, "subgenre": groove.subgenre or None,
        "groove": f"{groove.file}:{groove.name}" if groove.file else None, "tempo_bpm": plan.tempo_bpm,
        "tempo_class": plan.tempo_class, "key": plan.key, "mode": plan.mode, "metre": groove.metre,
        "instruments": instruments, "lead_instrument": lead,
        "lead_family": MELODIC[lead].family if lead in MELODIC else "none",
        "drums": any(part.role == "drums" for part in heard), "bass": bass,
        "mood": MOODS[plan.tempo_class][plan.mode == "minor"] if plan.tempo_class else None,
        "solo": len(instruments) == 1, "soundfont": plan.soundfont, "title": None,
    }  # fmt: skip


@functools.cache
def _synth(soundfont: str) -> Synth:
    return Synth(soundfont_path(soundfont), SYNTH_RATE)

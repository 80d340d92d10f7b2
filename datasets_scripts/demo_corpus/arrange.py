"""From a clip's plan to its MIDI stems, through mma."""

import math
import os
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from demo_corpus.chords import Chord, scale, spell
from demo_corpus.grooves import GENRES
from demo_corpus.melody import LEAD_CHANNEL, bar_ticks, compose
from demo_corpus.midi import Event, Track, read_midi, write_midi
from demo_corpus.plan import ClipPlan
from demo_corpus.sounds import ACCOMPANIMENT, BASSES, DISTORTED_GUITAR, LEADS

CLIP_S = 10.0
STEM_CHANNELS = {"lead": LEAD_CHANNEL, "accompaniment": 1, "bass": 2, "drums": 9}
UNPITCHED_TRACKS = ("Bass-Synthdrum",)  # a drum sound on a pitched track: neither bass nor accompaniment


@dataclass(frozen=True)
class Arrangement:
    """What plays, and from where in it the clip is cut."""

    stems: dict[str, Track]
    beats_per_minute: float  # mma's beats
    offset_s: float  # the clip starts within the first bar

    def midi_file(self) -> bytes:
        """The stems as one MIDI file, whose hash stands in the facts."""
        return write_midi(list(self.stems.values()), self.beats_per_minute)


def arrange(plan: ClipPlan) -> Arrangement:
    """The stems of a clip: mma's backing and a tune of its own, from a seeded bar of the song on."""
    rng = random.Random(f"{plan.seed}/arrange")
    groove = plan.groove
    tempo = plan.tempo_bpm * groove.mma_tempo_factor
    bar_s = groove.beats * 60 / tempo
    first, offset_s = rng.randrange(8), rng.random() * bar_s
    bars = math.ceil((CLIP_S + offset_s) / bar_s) + 1
    chords = (spell(plan.chords, plan.key) * (bars // 8 + 2))[: first + bars]
    stems = _backing(plan, chords, tempo) | {"lead": _tune(plan, chords, rng)}
    programs = _programs(plan)
    cut = first * bar_ticks(groove)
    played = {stem: _from_tick(stems[stem], cut, programs[stem]) for stem in STEM_CHANNELS if stem in programs}
    return Arrangement(played, tempo, offset_s)


def _tune(plan: ClipPlan, chords: list[Chord], rng: random.Random) -> Track:
    return Track("lead", compose(chords, scale(plan.key, plan.mode), plan.groove, LEADS[plan.lead][1:], rng))


def _programs(plan: ClipPlan) -> dict[str, int]:
    """The stems that play, with their programs."""
    rock_guitar = plan.accompaniment == "electric guitar" and plan.groove.genre == "rock"
    programs = {"lead": LEADS[plan.lead][0]}
    programs["accompaniment"] = DISTORTED_GUITAR if rock_guitar else ACCOMPANIMENT[plan.accompaniment]
    if plan.bass != "no bass":
        programs["bass"] = BASSES[plan.bass]
    if plan.drums:
        programs["drums"] = GENRES[plan.groove.genre].drum_kit
    return programs


def _backing(plan: ClipPlan, chords: list[Chord], tempo: float) -> dict[str, Track]:
    """mma's tracks gathered into accompaniment, bass and drums."""
    stems = {name: Track(name) for name in ("accompaniment", "bass", "drums")}
    for track in read_midi(run_mma(_mma_source(plan, chords, tempo))):
        if track.name in UNPITCHED_TRACKS:
            continue
        for event in track.events:
            if event.kind not in (0x80, 0x90):
                continue
            stem = _stem_of(track.name, event, plan)
            stems[stem].events.append(_on_channel(event, STEM_CHANNELS[stem]))
    return stems


def _stem_of(track: str, event: Event, plan: ClipPlan) -> str:
    if event.channel == STEM_CHANNELS["drums"]:
        return "drums"
    return "bass" if track in plan.groove.bass_tracks else "accompaniment"


def _mma_source(plan: ClipPlan, chords: list[Chord], tempo: float) -> str:
    bars = "\n".join(f"{number} {chord.name}" for number, chord in enumerate(chords, start=1))
    return f"RndSeed {plan.seed}\nTempo {tempo}\nUse {plan.groove.file}\nGroove {plan.groove.name}\n{bars}\n"


def run_mma(source: str) -> bytes:
    """mma's MIDI file for its source text; an empty home keeps a user's settings out."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "clip.mma").write_text(source, encoding="ascii")
        done = subprocess.run(["mma", "-f", "clip.mid", "clip.mma"], cwd=folder, capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "HOME": folder}, check=False)
        if done.returncode:
            raise ValueError(f"mma refused its source: {done.stdout[-500:]}\n{source}")
        return Path(folder, "clip.mid").read_bytes()


def _from_tick(stem: Track, cut: int, program: int) -> Track:
    """The stem from a tick on, its program first; notes that began earlier are left out."""
    channel = STEM_CHANNELS[stem.name]
    kept, sounding = [Event(0, bytes([0xC0 | channel, program]))], set()
    for event in sorted(stem.events):
        key = event.message[1]
        if event.is_note_on and event.tick >= cut:
            sounding.add(key)
        elif not (event.is_note_off and key in sounding):
            continue
        kept.append(Event(event.tick - cut, event.message))
    return Track(stem.name, kept)


def _on_channel(event: Event, channel: int) -> Event:
    return Event(event.tick, bytes([event.kind | channel]) + event.message[1:])

"""From a clip's plan to the notes of its stems: mma's backing, tunes and accompaniments of our own."""

import functools
import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from demo_corpus.arrange import run_mma
from demo_corpus.chords import Chord, scale, spell_numerals
from demo_corpus.melody import RHYTHMS, bar_ticks, compose
from demo_corpus.midi import TICKS_PER_BEAT, Event, Track, note, read_midi

from music_corpus.groove_library import LibraryGroove
from music_corpus.instruments import BASS_PROGRAMS, BASSES, MELODIC, NAMES, chord_programs
from music_corpus.plan import ClipPlan

CLIP_S = 10.0
SONG_BARS = 32
DRUM_CHANNEL = 9
BASS_TRACKS = ("BASS", "WALK")
LOW_KEY = 50  # a bass track's mean key lies below
FEWEST_NOTES = {"lead": 2, "chords": 2, "bass": 2, "drums": 4}
DRUM_KITS = (0, 0, 0, 8, 16, 24, 25, 32, 40)
BUSY = {
    "4/4": ((0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), (0, 0.5, 1, 1.5, 2, 3), (0, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 3.25, 3.5),
            (0, 0.75, 1, 2, 2.75, 3)),
    "3/4": ((0, 0.5, 1, 1.5, 2, 2.5), (0, 0.5, 1, 2, 2.5), (0, 0.75, 1, 2, 2.75)),
    "6/8": ((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 5), (0, 0.5, 1, 2, 3, 4, 5)),
}  # fmt: skip
LONG = {"4/4": ((0,), (0, 2), (0, 3)), "3/4": ((0,), (0, 2), (0, 1)), "6/8": ((0,), (0, 3), (0, 5))}
# Beats of a bar of four on which chords are struck.
STRUMS = ((0, 2), (0, 1, 2, 3), (0, 1.5, 3), (1, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), (0,))
OFFBEATS = {"reggae": (0.5, 1.5, 2.5, 3.5), "polka": (1, 3)}


@dataclass
class Part:
    """One instrument's stem."""

    role: str  # lead, chords, bass, drums
    name: str
    program: int
    track: Track = field(default_factory=Track)


@dataclass(frozen=True)
class Arrangement:
    """What plays, at mma's tempo, and where in it the clip begins."""

    parts: list[Part]
    beats_per_minute: float
    offset_s: float


def arrange(plan: ClipPlan) -> Arrangement:
    """Return the sounding parts of a planned song or solo; those without notes in the clip are left out.

    Where the groove has none of the parts that were drawn, one instrument plays alone.
    """
    assert plan.groove is not None
    rng = random.Random(f"{plan.seed}/arrange")
    tempo = plan.tempo_bpm * plan.groove.mma_tempo_factor
    bar_s = plan.groove.beats * 60 / tempo
    first, offset_s = rng.randrange(8), rng.random() * bar_s
    bars = math.ceil((CLIP_S + offset_s) / bar_s) + 1
    first = min(first, SONG_BARS - bars)
    parts = _solo(plan, rng) if plan.kind == "solo" else _line_up(plan, rng)
    cut = first * bar_ticks(plan.groove)
    start = cut + round(offset_s * tempo / 60 * TICKS_PER_BEAT)
    end = start + round(CLIP_S * tempo / 60 * TICKS_PER_BEAT)
    sounding = _sounding(parts, start, end) or _sounding(_solo(plan, rng), start, end)
    for part in sounding:
        part.track = _from_tick(part, cut)
    return Arrangement(sounding, tempo, offset_s)


def _solo(plan: ClipPlan, rng: random.Random) -> list[Part]:
    """One instrument alone: a line, and for most that can, its own accompaniment."""
    plan = plan if plan.lead else replace(plan, lead=rng.choice(list(MELODIC)))
    part = _tune(plan, _song_chords(plan), rng)
    if MELODIC[part.name].chordal and rng.random() < 0.7:
        part.track.events += _comping(plan, _song_chords(plan), rng, top=MELODIC[part.name].low)
    return [part]


def _line_up(plan: ClipPlan, rng: random.Random) -> list[Part]:
    groove, chords = plan.groove, _song_chords(plan)
    assert groove is not None
    backing = _backing(groove, plan.numerals, plan.song_seed)
    shift = (_tonic(plan.key) + 6) % 12 - 6  # mma played in C
    parts = [_tune(plan, chords, rng)] if plan.lead else []
    if plan.drums:
        parts.append(Part("drums", "drums", rng.choice(DRUM_KITS), _joined(backing["drums"], DRUM_CHANNEL, 0)))
    if plan.bass:
        parts += _bass(plan, backing["bass"], shift, chords, rng)
    if plan.chords == "groove":
        parts += _own_chords(backing["chords"], shift, plan.lead)
    elif plan.chords:
        program = rng.choice(chord_programs(plan.chords, groove.genre))
        played = _joined(backing["chords"], 1, shift)
        if groove.only_drums or not played.events:
            played = Track(events=_comping(plan, chords, rng, top=64))
        parts.append(Part("chords", plan.chords, program, played))
    return parts


def _tune(plan: ClipPlan, chords: list[Chord], rng: random.Random) -> Part:
    groove, instrument = plan.groove, MELODIC[plan.lead or ""]
    assert groove is not None
    metre = "4/4" if groove.metre == "12/8" else groove.metre
    pool = rng.choice((RHYTHMS, RHYTHMS, BUSY, LONG if plan.tempo_bpm > 75 else RHYTHMS))[metre]
    middle = rng.randint(instrument.low + 7, instrument.high - 7)
    span = rng.choice((8, 11, 14))
    keys = max(instrument.low, middle - span), min(instrument.high, middle + span)
    bar = LibraryGroove("", "", "", "", metre, groove.beats, groove.swing or groove.metre == "12/8")
    events = compose(chords, scale(plan.key, plan.mode), bar, keys, rng, pool, rng.choice((0.5, 0.8, 0.92, 1.0)))
    return Part("lead", plan.lead or "", rng.choice(instrument.programs), Track("lead", events))


def _bass(
    plan: ClipPlan, tracks: list["_Backing"], shift: int, chords: list[Chord], rng: random.Random
) -> list[Part]:
    """The groove's bass with its own sound or another; drum patterns get roots and fifths."""
    played = _joined(tracks, 2, shift)
    if not played.events:
        played = Track(events=_roots(plan, chords, rng))
    named = [track for track in tracks if track.name]
    if plan.bass == "groove":
        own = named[0] if named else None
        return [Part("bass", own.name if own else "electric bass", own.program if own else 33, played)]
    return [Part("bass", plan.bass or "", rng.choice(BASSES[plan.bass or ""]), played)]


def _own_chords(tracks: list["_Backing"], shift: int, lead: str | None) -> list[Part]:
    """The groove's two busiest instruments, each with all its tracks."""
    sizes: Counter[str] = Counter()
    for track in tracks:
        if track.name and track.name != lead:
            sizes[track.name] += sum(event.is_note_on for event in track.events)
    parts = []
    for channel, (name, _) in enumerate(sizes.most_common(2), start=3):
        own = [track for track in tracks if track.name == name]
        parts.append(Part("chords", name, own[0].program, _joined(own, channel, shift)))
    return parts


@dataclass(frozen=True)
class _Backing:
    name: str  # empty for effects
    program: int
    events: tuple[Event, ...]


@functools.lru_cache(maxsize=2)
def _backing(groove: LibraryGroove, numerals: str, seed: int) -> dict[str, list[_Backing]]:
    """mma's tracks in C by role; one run serves the clips of a song."""
    chords = spell_numerals(numerals, "C") * (SONG_BARS // 8)
    bars = "\n".join(f"{number} {chord.name}" for number, chord in enumerate(chords, start=1))
    source = f"RndSeed {seed}\nTempo 100\nUse {groove.file}.mma\nGroove {groove.name}\n{bars}\n"
    roles: dict[str, list[_Backing]] = {"drums": [], "bass": [], "chords": []}
    for track in read_midi(run_mma(source)):
        notes = tuple(event for event in track.events if event.kind in (0x80, 0x90))
        if notes:
            role, program = _role(track, notes)
            if role:
                roles[role].append(_Backing(NAMES.get(program, ""), program, notes))
    return roles


def _role(track: Track, notes: tuple[Event, ...]) -> tuple[str, int]:
    if notes[0].channel == DRUM_CHANNEL:
        return "drums", 0
    program = next((event.message[1] for event in track.events if event.kind == 0xC0), 0)
    if program in BASS_PROGRAMS:
        return "bass", program
    if program not in NAMES:
        return "", program
    keys = [event.message[1] for event in notes if event.is_note_on]
    low = sum(keys) / len(keys) < LOW_KEY
    return ("bass" if low and track.name.upper().startswith(BASS_TRACKS) else "chords"), program


def _joined(tracks: Iterable[_Backing], channel: int, shift: int) -> Track:
    """All notes of some tracks on one channel, transposed."""
    return Track(events=[Event(event.tick, bytes([event.kind | channel, min(max(event.message[1] + shift, 0), 127)])
                               + event.message[2:]) for track in tracks for event in track.events])


def _comping(plan: ClipPlan, chords: list[Chord], rng: random.Random, top: int) -> list[Event]:
    """Chords struck in one pattern, or broken into single notes; the top key bounds them."""
    groove = plan.groove
    assert groove is not None
    onsets = OFFBEATS.get(groove.genre) or rng.choice(STRUMS)
    units = {"3/4": 3, "6/8": 2}.get(groove.metre, 4)
    onsets = [onset for onset in onsets if onset < units] or [0]
    broken, power = rng.random() < 0.3, groove.genre in ("metal", "punk")
    events: list[Event] = []
    for bar, chord in enumerate(chords):
        keys = _voicing(chord, top, power)
        for index, (onset, end) in enumerate(zip(onsets, [*onsets[1:], units], strict=True)):
            start = round((bar + onset / units) * bar_ticks(groove))
            ticks = round(min(end - onset, 2) / units * bar_ticks(groove) * 0.9)
            struck = [keys[index % len(keys)]] if broken else keys
            for key in struck:
                events += note(start, ticks, 1, key, rng.randint(70, 95))
    return events


def _voicing(chord: Chord, top: int, power: bool) -> list[int]:
    classes = {chord.root, (chord.root + 7) % 12} if power else chord.pitch_classes
    return sorted(top - (top - pitch) % 12 for pitch in classes)


def _roots(plan: ClipPlan, chords: list[Chord], rng: random.Random) -> list[Event]:
    """A bass of roots and fifths."""
    groove = plan.groove
    assert groove is not None
    units = {"3/4": 3, "6/8": 2}.get(groove.metre, 4)
    pattern = rng.choice(((0,), (0, 2), (0, 1, 2, 3), (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), (0, 1.5, 2), (0, 0.75, 2.5)))
    onsets = [onset for onset in pattern if onset < units]
    events: list[Event] = []
    for bar, chord in enumerate(chords):
        root = 28 + (chord.root - 4) % 12
        for index, (onset, end) in enumerate(zip(onsets, [*onsets[1:], units], strict=True)):
            key = root + (7 if index % 4 == 2 and root < 36 else 0)
            start = round((bar + onset / units) * bar_ticks(groove))
            ticks = round((end - onset) / units * bar_ticks(groove) * 0.85)
            events += note(start, ticks, 2, key, rng.randint(85, 110))
    return events


def _song_chords(plan: ClipPlan) -> list[Chord]:
    return spell_numerals(plan.numerals, plan.key) * (SONG_BARS // 8)


def _tonic(key: str) -> int:
    return spell_numerals("I", key)[0].root


def _sounding(parts: list[Part], start: int, end: int) -> list[Part]:
    """The parts with enough notes between two ticks to be recognised."""
    notes = [sum(event.is_note_on and start <= event.tick < end for event in part.track.events) for part in parts]
    return [part for part, count in zip(parts, notes, strict=True) if count >= FEWEST_NOTES[part.role]]


def _from_tick(part: Part, cut: int) -> Track:
    """The part from a tick on, its program first; notes that began earlier are left out."""
    channel = part.track.events[0].channel
    kept, sounding = [Event(0, bytes([0xC0 | channel, part.program]))], set()
    for event in sorted(part.track.events):
        if event.is_note_on and event.tick >= cut:
            sounding.add(event.message[1])
        elif not (event.is_note_off and event.message[1] in sounding):
            continue
        kept.append(Event(event.tick - cut, event.message))
    return Track(part.role, kept)

"""Standard MIDI files, read into timed events and written byte for byte the same again."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

TICKS_PER_BEAT = 192  # mma's resolution


@dataclass(frozen=True, order=True)
class Event:
    """A channel message `status data…` at an absolute tick."""

    tick: int
    message: bytes

    @property
    def kind(self) -> int:
        return self.message[0] & 0xF0

    @property
    def channel(self) -> int:
        return self.message[0] & 0x0F

    @property
    def is_note_on(self) -> bool:
        return self.kind == 0x90 and self.message[2] > 0

    @property
    def is_note_off(self) -> bool:
        return self.kind == 0x80 or (self.kind == 0x90 and self.message[2] == 0)


@dataclass
class Track:
    name: str = ""
    events: list[Event] = field(default_factory=list)


def note(tick: int, ticks: int, channel: int, key: int, velocity: int) -> list[Event]:
    """A note's on and off events."""
    return [Event(tick, bytes([0x90 | channel, key, velocity])), Event(tick + ticks, bytes([0x80 | channel, key, 0]))]


def read_midi(data: bytes) -> list[Track]:
    """The named tracks of a standard MIDI file, channel messages only."""
    if data[:4] != b"MThd" or struct.unpack(">H", data[12:14])[0] != TICKS_PER_BEAT:
        raise ValueError(f"not a MIDI file of {TICKS_PER_BEAT} ticks a beat: begins {data[:14]!r}")
    position, tracks = 14, []
    while position < len(data):
        size = struct.unpack(">I", data[position + 4 : position + 8])[0]
        tracks.append(_read_track(data[position + 8 : position + 8 + size]))
        position += 8 + size
    return tracks


def write_midi(tracks: list[Track], beats_per_minute: float) -> bytes:
    """A format 1 file: a tempo track, then the given ones."""
    tempo = round(60_000_000 / beats_per_minute).to_bytes(3, "big")
    chunks = [_chunk(b"\x00\xff\x51\x03" + tempo)] + [_chunk(_track_bytes(track)) for track in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, 1, len(chunks), TICKS_PER_BEAT) + b"".join(chunks)


def _read_track(data: bytes) -> Track:
    track, position, tick, status = Track(), 0, 0, 0
    while position < len(data):
        delta, position = _read_length(data, position)
        tick += delta
        if data[position] & 0x80:
            status, position = data[position], position + 1
        if status in (0xF0, 0xF7, 0xFF):
            kind, position = (data[position], position + 1) if status == 0xFF else (None, position)
            size, position = _read_length(data, position)
            if kind == 0x03:
                track.name = data[position : position + size].decode("latin-1").strip()
            position += size
        else:
            size = 1 if status & 0xF0 in (0xC0, 0xD0) else 2
            track.events.append(Event(tick, bytes([status]) + data[position : position + size]))
            position += size
    return track


def _read_length(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    while True:
        byte, position = data[position], position + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, position


def _length_bytes(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def _track_bytes(track: Track) -> bytes:
    name = track.name.encode("latin-1")
    return b"\x00\xff\x03" + _length_bytes(len(name)) + name + b"".join(_delta_messages(track.events))


def _delta_messages(events: Iterable[Event]) -> Iterator[bytes]:
    previous = 0
    for event in sorted(events):
        yield _length_bytes(event.tick - previous) + event.message
        previous = event.tick


def _chunk(body: bytes) -> bytes:
    body += b"\x00\xff\x2f\x00"
    return b"MTrk" + struct.pack(">I", len(body)) + body

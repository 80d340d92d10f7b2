"""fluidsynth through ctypes: a soundfont, loaded once, plays stems to float samples."""

import ctypes
import ctypes.util
from pathlib import Path

import numpy as np

from demo_corpus.midi import TICKS_PER_BEAT, Track

RATE = 44100  # the soundfonts' own: resampling happens once, at the end
WARNING = 2  # fluidsynth's log level
BLOCK = 64  # fluidsynth's buffer: events take effect at its edges


class Synth:
    """One soundfont in memory; every stem gets a fresh synthesiser, for a used one leaves traces in the next sound."""

    def __init__(self, soundfont: Path, rate: int = RATE) -> None:
        self._lib, self._rate = _library(), rate
        self._settings = ctypes.c_void_p(self._lib.new_fluid_settings())
        self._lib.fluid_settings_setnum(self._settings, b"synth.sample-rate", ctypes.c_double(rate))
        self._lib.fluid_settings_setnum(self._settings, b"synth.gain", ctypes.c_double(0.5))
        for effect in (b"synth.reverb.active", b"synth.chorus.active"):
            self._lib.fluid_settings_setint(self._settings, effect, 0)
        self._loader = ctypes.c_void_p(self._lib.new_fluid_synth(self._settings))
        number = self._lib.fluid_synth_sfload(self._loader, str(soundfont).encode(), 0)
        if number < 0:
            raise OSError(f"{soundfont}: fluidsynth cannot load this soundfont")
        self._soundfont = ctypes.c_void_p(self._lib.fluid_synth_get_sfont_by_id(self._loader, number))

    def play(self, track: Track, beats_per_minute: float, seconds: float) -> np.ndarray:
        """The track as mono float32 at the synthesiser's rate, of at least the given length."""
        synth = ctypes.c_void_p(self._lib.new_fluid_synth(self._settings))
        self._lib.fluid_synth_add_sfont(synth, self._soundfont)
        try:
            return self._play_on(synth, track, beats_per_minute, int(np.ceil(seconds * self._rate / BLOCK)))
        finally:
            self._lib.fluid_synth_remove_sfont(synth, self._soundfont)
            self._lib.delete_fluid_synth(synth)

    def _play_on(self, synth: ctypes.c_void_p, track: Track, beats_per_minute: float, blocks: int) -> np.ndarray:
        sides, position = np.zeros((2, blocks * BLOCK), np.float32), 0
        for event in sorted(track.events):
            due = round(event.tick * 60 / beats_per_minute / TICKS_PER_BEAT * self._rate / BLOCK)
            if due >= blocks:
                break
            self._fill(synth, sides, position, due)
            position = due
            self._send(synth, event.message)
        self._fill(synth, sides, position, blocks)
        return sides.mean(axis=0)

    def _fill(self, synth: ctypes.c_void_p, sides: np.ndarray, start: int, stop: int) -> None:
        left, right = (side.ctypes.data_as(ctypes.c_void_p) for side in sides)
        first, count = start * BLOCK, (stop - start) * BLOCK
        self._lib.fluid_synth_write_float(synth, count, left, first, 1, right, first, 1)

    def _send(self, synth: ctypes.c_void_p, message: bytes) -> None:
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        if kind == 0xC0:
            self._lib.fluid_synth_program_change(synth, channel, message[1])
        elif kind == 0x90 and message[2]:
            self._lib.fluid_synth_noteon(synth, channel, message[1], message[2])
        else:
            self._lib.fluid_synth_noteoff(synth, channel, message[1])


def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("fluidsynth")
    if name is None:
        raise OSError("libfluidsynth is not installed: apt-get install fluidsynth")
    library = ctypes.CDLL(name)
    for function in (library.new_fluid_settings, library.new_fluid_synth, library.fluid_synth_get_sfont_by_id):
        function.restype = ctypes.c_void_p
    library.fluid_set_log_function(WARNING, None, None)  # each stem's end is warned about: its soundfont is gone
    return library

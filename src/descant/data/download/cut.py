"""A fetched section cut to exactly the annotated window, as a 16 kHz mono FLAC file."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from descant.data.audio import AudioError, load_audio
from descant.data.clip_audio import require_sound
from descant.data.download.outcomes import BAD_AUDIO, FetchError, Outcome

SAMPLING_RATE = 16_000
TOLERANCE_S = 0.02
# Decoders and resamplers need some sound before the first sample that counts, and after the last.
MARGIN_S = 1.0


@dataclass(frozen=True)
class CutClip:
    """A written clip."""

    sha256: str
    duration_s: float


def section_of(start_s: float, end_s: float) -> tuple[float, float]:
    """The section to fetch for a window: the window and a margin."""
    return max(0.0, start_s - MARGIN_S), end_s + MARGIN_S


def cut_clip(section: Path, start_s: float, end_s: float, target: Path) -> CutClip:
    """Cuts the window out of a fetched section and puts it in `target`'s place in one step; raises FetchError.

    `duration_s` is what was decoded of the window. It may miss 20 ms, which are then silence, so that every clip has
    exactly the window's length.
    """
    first = round((start_s - section_of(start_s, end_s)[0]) * SAMPLING_RATE)
    wanted = round((end_s - start_s) * SAMPLING_RATE)
    try:
        waveform = load_audio(section, SAMPLING_RATE)[first : first + wanted]
        _require_duration(len(waveform), wanted)
        require_sound(str(section), waveform)
    except AudioError as error:
        raise FetchError(Outcome(BAD_AUDIO, error.reason)) from error
    temporary = section.with_suffix(".flac")
    padded = np.pad(waveform.clip(-1, 1), (0, wanted - len(waveform)))
    soundfile.write(temporary, padded, SAMPLING_RATE, subtype="PCM_16")
    with open(temporary, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    temporary.replace(target)
    return CutClip(digest, len(waveform) / SAMPLING_RATE)


def _require_duration(samples: int, wanted: int) -> None:
    if wanted - samples > TOLERANCE_S * SAMPLING_RATE:
        lasts, asked = samples / SAMPLING_RATE, wanted / SAMPLING_RATE
        raise FetchError(Outcome(BAD_AUDIO, f"the recording has only {lasts:.2f} s of the window's {asked:g} s"))

"""MP4 (m4a) and WebM sound, which libsndfile does not read, through PyAV where it is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import av

WEBM_MAGIC = b"\x1a\x45\xdf\xa3"
# A playlist named .m4a would make FFmpeg read the files that it names, so only these two demuxers may open anything,
# and only the bytes handed over are read.
SAFE_OPENING = {"format_whitelist": "mov,matroska", "protocol_whitelist": "file"}
UNREADABLE = "is not sound that can be read, or is damaged"
TOLERANCE_S = 0.25  # encoders' padding at both ends


def is_mp4_or_webm(path: str | Path) -> bool:
    """Looks at the first bytes, not at the name."""
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == WEBM_MAGIC or head[4:8] == b"ftyp"


def read_mp4_or_webm(path: str | Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yields (mono float32 block, Hz); raises ImportError without PyAV, ValueError with the reason for a bad file."""
    import av

    try:
        with open(path, "rb") as file, av.open(file, options=SAFE_OPENING) as container:
            yield from _decode(container)
    except av.FFmpegError as error:
        raise ValueError(UNREADABLE) from error


def _decode(container: "av.container.InputContainer") -> Iterator[tuple[np.ndarray, int]]:
    from av import AudioResampler

    if not container.streams.audio:
        raise ValueError("holds no sound")
    to_float, seconds = AudioResampler(format="fltp"), 0.0
    for frame in container.decode(audio=0):
        for part in to_float.resample(frame):
            seconds += part.samples / part.sample_rate
            yield part.to_ndarray().mean(axis=0, dtype=np.float32), part.sample_rate
    promised = _promised_s(container)
    if seconds + TOLERANCE_S < promised:
        raise ValueError(f"is cut short: {seconds:.1f} of {promised:.1f} s; get the whole file again")


def _promised_s(container: "av.container.InputContainer") -> float:
    stream = container.streams.audio[0]
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # WebM tells the length of the whole file only, and a film may go on after its sound.
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0

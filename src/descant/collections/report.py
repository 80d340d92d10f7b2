"""A page of tracks: players, spectrograms with the windows that were heard, and answers with their probabilities.

The page asks no server for anything: what users gave it stands in one block of JSON that the page's script, the only
one that may run, puts into text nodes.
"""

import base64
import hashlib
import html
import io
import json
import math
import mimetypes
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from descant.collections.facts import find_sound, is_description, read_descriptions, read_fact
from descant.data.audio import AudioError, stream_audio
from descant.data.tables import Problem, read_table
from descant.files import Record, write_whole
from descant.program import describe_os_error, say

MOST_IN_ONE_FILE = 50  # tracks whose sound and pictures a single file may hold
OTHERS_SHOWN = 4  # options of a question
NAMES = {"tempo_class": "tempo", "electronic": "sound"}  # of decisions, as they are shown
RATE, FRAME, COLUMNS, BANDS = 16_000, 1024, 480, 72  # of a spectrogram's picture
RANGE_DB = 70.0
SOUNDS = {".flac": "audio/flac", ".opus": "audio/ogg", ".m4a": "audio/mp4", ".ogg": "audio/ogg"}

Track = dict[str, Any]


# What is shown of a track


def show_description(description: Record) -> Track:
    """Return what the page shows of a description."""
    decisions, measured = description["decisions"], description["measured"] or {}
    asked = {name: answer for name, answer in decisions.items() if name != "instruments"}
    asked |= decisions["instruments"]
    genre = read_fact(decisions["genre"])
    values = {name: (measured.get(name) or {}).get("value") for name in ("bpm", "key", "loudness_lufs")}
    said = [f"{values['bpm']:.0f} BPM" if values["bpm"] else None, values["key"]]
    said.append(None if values["loudness_lufs"] is None else f"{values['loudness_lufs']:.1f} LUFS")
    return _track(
        description["audio"], description["duration_s"], heard=decisions["genre"].get("heard", []),
        caption=show_caption(description["caption"]), genre=genre.value if genre else None,
        sure=round(genre.probability, 4) if genre else 0, bpm=values["bpm"], measured=", ".join(filter(None, said)),
        decisions=[show_decision(name, answer) for name, answer in asked.items()],
    )  # fmt: skip


def show_caption(caption: Mapping[str, Any] | None) -> str | None:
    """Return a caption, with the names of answers that it contradicts."""
    if caption is None:
        return None
    against = ", ".join(caption.get("contradicts", ()))
    return f"{caption['text']} (contradicts {against})" if against else caption["text"]


def show_decision(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a typed answer: the likeliest options with their probabilities."""
    fact = read_fact(answer)
    if answer["type"] == "noul":
        options = [("yes", answer["noul"])]
    else:
        legend = answer.get("legend") or {}
        options = [(str(legend.get(key, key)), value) for key, value in answer["probabilities"].items()]
    ranked = sorted(options, key=lambda pair: -pair[1])[:OTHERS_SHOWN]
    return {
        "name": NAMES.get(name, name), "said": fact.value if fact else "", "sure": bool(fact and fact.sure),
        "reason": answer.get("reason"), "options": [[option, round(share, 4)] for option, share in ranked],
    }  # fmt: skip


def show_answers(audio: str, answers: Sequence[Record]) -> Track:
    """Return what the page shows of the answers about one recording."""
    rows: list[dict[str, Any]] = []
    for one in answers:
        span = None if one.get("start_s") is None else [one["start_s"], one["end_s"]]
        score = one.get("score")
        rows.append({
            "span": span, "question": one.get("question") or "(caption)", "said": one.get("prediction") or "",
            "error": one.get("error"), "references": list(map(str, one.get("references") or [])),
            "confidence": None if score is None else round(math.exp(min(score, 0.0)), 4),
        })  # fmt: skip
    spans = sorted({tuple(row["span"]) for row in rows if row["span"]})
    return _track(audio, max((end for _, end in spans), default=0), heard=list(map(list, spans)), answers=rows)


def _track(audio: str, duration_s: float, **shown: Any) -> Track:
    nothing: Track = {
        "heard": [], "caption": None, "genre": None, "sure": 0, "bpm": None, "measured": "", "decisions": [],
        "answers": [], "picture": None, "sound": None,
    }  # fmt: skip
    return nothing | {"name": audio, "duration": duration_s} | shown


def read_tracks(path: Path) -> tuple[list[Track], list[Problem]]:
    """Read descriptions or answers as tracks, and name the records that are neither; raises ValueError."""
    numbered = read_table(path).numbered
    records = [record for _, record in numbered if isinstance(record, dict)]
    if any(is_description(record) or "description" in record for record in records):
        found, problems = read_descriptions(path)
        return list(map(show_description, found)), problems
    grouped: dict[str, list[Record]] = {}
    for record in records:
        if isinstance(record.get("audio"), str) and ("prediction" in record or record.get("error")):
            grouped.setdefault(record["audio"], []).append(record)
    if not grouped:
        raise ValueError(f"{path}: holds neither descriptions nor answers")
    left = len(records) - sum(map(len, grouped.values()))
    problems = [record for _, record in numbered if isinstance(record, Problem)]
    problems += [Problem(str(path), None, None, f"{left} records are no answers")] if left else []
    return [show_answers(audio, answers) for audio, answers in grouped.items()], problems


# Pictures


def draw_spectrogram(path: Path) -> np.ndarray:
    """Return levels (72 mel-like bands, 480 columns) of a track between 0 and 1, low bands last; raises AudioError."""
    return draw_levels(np.concatenate(list(stream_audio(path, RATE))))


def draw_levels(waveform: np.ndarray, columns: int = COLUMNS, bands: int = BANDS) -> np.ndarray:
    """Return levels (bands, columns) of a mono waveform (samples,) at 16 kHz between 0 and 1, low bands last."""
    waveform = np.pad(waveform, (0, max(0, FRAME - len(waveform))))
    starts = np.linspace(0, len(waveform) - FRAME, columns).astype(int)
    frames = waveform[starts[:, None] + np.arange(FRAME)] * np.hanning(FRAME)  # (columns, samples)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.geomspace(2, FRAME // 2, bands + 1)
    sums = np.concatenate([np.zeros((columns, 1)), power.cumsum(axis=1)], axis=1)
    low = edges[:-1].astype(int)
    high = np.maximum(edges[1:].astype(int), low + 1)
    levels = 10 * np.log10((sums[:, high] - sums[:, low]) / (high - low) + 1e-12)  # (columns, bands)
    return np.clip((levels - levels.max()) / RANGE_DB + 1, 0, 1).T[::-1]


def to_png(levels: np.ndarray) -> bytes:
    """Return levels (bands, columns) between 0 and 1 as a PNG."""
    from matplotlib import image

    file = io.BytesIO()
    image.imsave(file, levels, cmap="magma", vmin=0, vmax=1, format="png")
    return file.getvalue()


# The page


def write_report(
    path: Path, folder: Path, *, audio_dir: Path | None = None, single_file: bool = False, pictures: bool = True
) -> tuple[int, list[Problem]]:
    """Write `report.html` about descriptions or answers into a folder; return how many tracks, and what went wrong.

    Args:
        path: descriptions (.jsonl, .parquet) or answers (.jsonl).
        audio_dir: where sound with relative paths is looked for first, then here and in the folder of `path`.
        folder: gets report.html, and `pictures/` that are kept where they are there; sound is linked.
        single_file: put pictures and sound into report.html.
        pictures: draw spectrograms.

    Raises ValueError for a file of something else, and for too many tracks for one file.
    """
    tracks, problems = read_tracks(path)
    if single_file and len(tracks) > MOST_IN_ONE_FILE:
        raise ValueError(f"--single_file holds {MOST_IN_ONE_FILE} tracks at most, and {path} has {len(tracks)}")
    for track in _show_progress(tracks):
        song = find_sound(track["name"], [path.parent], named=audio_dir)
        if song is None:
            problems.append(Problem(track["name"], None, None, "the sound is not there"))
            continue
        track["sound"] = embed(song.read_bytes(), song.name) if single_file else link(song, folder)
        if pictures:
            try:
                track["picture"] = add_picture(song, folder, single_file)
            except (AudioError, OSError) as error:
                reason = error.reason if isinstance(error, AudioError) else describe_os_error(error)
                problems.append(Problem(track["name"], None, None, reason))
    write_whole(folder / "report.html", render_page(f"{path.name}: {len(tracks)} tracks", tracks))
    return len(tracks), problems


def _show_progress(tracks: Sequence[Track]) -> Iterator[Track]:
    from tqdm import tqdm

    yield from tqdm(tracks, desc="drawing", unit=" tracks", disable=None, leave=False, dynamic_ncols=True)


def add_picture(song: Path, folder: Path, single_file: bool) -> str:
    """Draw a song where no picture of it, as it is now, is there yet; return the address for the page."""
    if single_file:
        return embed(to_png(draw_spectrogram(song)), "picture.png")
    status = song.stat()
    known = os.fsencode(f"{song.resolve()} {status.st_size} {status.st_mtime_ns}")
    picture = folder / "pictures" / f"{hashlib.sha1(known).hexdigest()[:16]}.png"
    if not picture.is_file():
        write_whole(picture, to_png(draw_spectrogram(song)))
    return f"pictures/{picture.name}"


def link(song: Path, folder: Path) -> str:
    """Return the relative address of a file from a folder."""
    return quote(os.fsencode(os.path.relpath(song.resolve(), folder.resolve())))


def embed(content: bytes, name: str) -> str:
    """Return a file's content as a data address; name: of the file, which says its kind."""
    kind = SOUNDS.get(Path(name).suffix.lower()) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def render_page(title: str, tracks: Iterable[Track]) -> str:
    """Return the page; no text of a track can end its block of data, and no script but the page's own runs."""
    template = files("descant.collections").joinpath("report.html").read_text(encoding="utf-8")
    script = template.rpartition("<script>")[2].partition("</script>")[0]
    data = json.dumps(list(tracks), allow_nan=False)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    escaped = html.escape(title.encode("utf-8", "replace").decode())
    head, _, tail = template.partition("__DATA__")
    return (head + "\0" + tail).replace("__TITLE__", escaped).replace("__HASH__", digest).replace("\0", data)


def report_problems(problems: Iterable[Problem]) -> None:
    """Say what went wrong, a line each."""
    for problem in problems:
        say(f"descant report: {problem}")

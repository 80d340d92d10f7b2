"""The files of the demo corpus, in the layouts of MusicCaps and MusicInstruct."""

import csv
import hashlib
import io
import json
from collections.abc import Container
from pathlib import Path

from demo_corpus.artists import assign_artists
from demo_corpus.grooves import GROOVES
from demo_corpus.lyrics import write_lyrics
from demo_corpus.plan import ClipPlan
from demo_corpus.text import LONG_TYPES, SHORT_TYPES, answer, aspects, caption, question

MUSIC = "/m/04rlf"  # AudioSet's id of "Music"
AUDIOSET_TEST = ("test", "test_grooves")
MANIFEST = "MANIFEST.sha256"


def write_tables(plans: list[ClipPlan], midi_hashes: dict[str, str], folder: Path) -> None:
    """Facts, captions and both question files."""
    _write(folder / "facts.csv", _csv([facts_row(plan, midi_hashes[plan.clip_id]) for plan in plans]))
    _write(folder / "demo_musiccaps.csv", _csv([_musiccaps_row(plan) for plan in plans]))
    for name, types in (("demo_qa_short.json", SHORT_TYPES), ("demo_qa_long.json", LONG_TYPES)):
        records = [_qa_record(plan, question_type) for plan in plans for question_type in types]
        lines = ",\n".join(json.dumps(record) for record in records)
        _write(folder / name, f'{{"QA": [\n{lines}\n]}}\n'.encode())


def write_tracks(plans: list[ClipPlan], folder: Path) -> None:
    """Artists, lyrics and labels in the general form of a collection of tracks, and the tree of the labels."""
    artists = assign_artists(plans)
    _write(folder / "demo_tracks.csv", _csv([_track_row(plan, artists[plan.clip_id]) for plan in plans]))
    branches: dict[str, list[str]] = {}
    for groove in GROOVES:
        branches.setdefault(groove.genre, []).append(groove.subgenre)
    lines = ",\n".join(f"  {json.dumps(genre)}: {json.dumps(names)}" for genre, names in branches.items())
    _write(folder / "demo_labels.json", f"{{\n{lines}\n}}\n".encode())


def facts_row(plan: ClipPlan, midi_hash: str) -> dict[str, str | int]:
    return {
        "clip_id": plan.clip_id, "split": plan.split, "genre": plan.groove.genre, "subgenre": plan.groove.subgenre,
        "groove": plan.groove.name, "chords": plan.chords, "key": plan.key, "mode": plan.mode,
        "tempo_bpm": plan.tempo_bpm, "tempo_class": plan.tempo_class, "instruments": "; ".join(plan.instruments),
        "lead_instrument": plan.lead, "drums": "yes" if plan.drums else "no", "bass": plan.bass, "mood": plan.mood,
        "metre": plan.groove.metre, "soundfont": plan.soundfont, "seed": plan.seed, "midi_sha256": midi_hash,
        "artist": "", "lyrics": "",
    }  # fmt: skip


def write_manifest(folder: Path) -> None:
    """sha256 of every data file, as `sha256sum --check` reads it."""
    files = sorted(path for path in folder.rglob("*") if is_data_file(path))
    lines = [f"{sha256(path.read_bytes())}  {path.relative_to(folder).as_posix()}\n" for path in files]
    _write(folder / MANIFEST, "".join(lines).encode())


def write_audio(folder: Path, clip_id: str, data: bytes) -> None:
    _write(folder / "audio" / f"{clip_id}.ogg", data)


def remove_other_audio(folder: Path, clip_ids: Container[str]) -> None:
    """Deletes the clips of an earlier plan."""
    for path in (folder / "audio").glob("*.ogg"):
        if path.stem not in clip_ids:
            path.unlink()


def is_data_file(path: Path) -> bool:
    return path.suffix in (".csv", ".json", ".ogg") or path.name == "NOTICE"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _track_row(plan: ClipPlan, artist: str) -> dict[str, str]:
    language, lyrics = write_lyrics(plan, artist)
    return {
        "id": plan.clip_id, "audio": f"audio/{plan.clip_id}.ogg", "artist": artist, "genre": plan.groove.genre,
        "subgenres": f"{plan.groove.genre}---{plan.groove.subgenre}", "split": plan.split, "language": language,
        "lyrics": lyrics,
    }  # fmt: skip


def _musiccaps_row(plan: ClipPlan) -> dict[str, object]:
    return {
        "ytid": plan.ytid, "start_s": 0, "end_s": 10, "audioset_positive_labels": MUSIC,
        "aspect_list": str(aspects(plan)), "caption": caption(plan), "author_id": 0, "is_balanced_subset": False,
        "is_audioset_eval": plan.split in AUDIOSET_TEST,
    }  # fmt: skip


def _qa_record(plan: ClipPlan, question_type: str) -> dict[str, object]:
    return {
        "ytid": plan.ytid, "start_s": 0, "end_s": 10, "question_type": question_type,
        "question": question(plan, question_type), "answer": answer(plan, question_type),
        "is_audioset_eval": plan.split in AUDIOSET_TEST,
    }  # fmt: skip


def _csv(rows: list[dict]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)

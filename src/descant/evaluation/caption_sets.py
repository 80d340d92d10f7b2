"""Published sets of captions and of open questions, written as tables that `load_corpus` reads.

MusicInstruct is scored by the protocol `musilingo`, the Song Describer Dataset by `lp_musiccaps`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from descant.data.annotations import clip_windows, log_problems, parse_clip_id, read_music_instruct, read_musiccaps
from descant.data.sources import find_audio_column
from descant.data.tables import Columns, Problem, locate, read_table
from descant.evaluation.benchmarks import HubBenchmark, fetch_files
from descant.files import JsonLines, write_whole

PROTOCOLS = {"musicinstruct": "musilingo", "song_describer": "lp_musiccaps"}
MUSIC_INSTRUCT, MUSICCAPS = "m-a-p/Music-Instruct", "google/MusicCaps"
ALL_QUESTIONS = ("music_instruct.json", "musicinstruct.json", "_both.json", "_all.json", ".json")
SONG_DESCRIBER = HubBenchmark("renumics/song-describer-dataset", r"(.*/)?train-.*\.parquet")
SONG_COLUMNS: Columns = (frozenset({"track_id", "caption", "path"}),)
VALID = "is_valid_subset"  # the captions that were checked, which are those to be scored


def find_caption_set(source: str) -> str | None:
    """Return which set `--benchmark` names, by its name or as Song Describer's own CSV file; None: neither."""
    if source in PROTOCOLS and not Path(source).exists():
        return source
    path = Path(source)
    if path.suffix.lower() == ".csv" and path.is_file() and read_table(path).count(SONG_COLUMNS):
        return "song_describer"
    return None


def write_caption_set(name: str, source: str, folder: Path, audio_dir: str | None = None) -> Path:
    """Write the set's test split into a folder as one table, and return its path.

    Args:
        name: what `find_caption_set` returned.
        source: what `--benchmark` was given.
        folder: where the table, and sounds that the Hub sends with the captions, are written.
        audio_dir: where the sounds lie that Song Describer's CSV names.

    Raises:
        ValueError: the set is out of reach, or holds no test rows.
    """
    if name == "musicinstruct":
        return _write_music_instruct(folder)
    rows = list(_read_csv(Path(source), audio_dir) if Path(source).is_file() else _read_shards(folder))
    if not rows:
        raise ValueError(f"--benchmark {source}: holds no caption of the valid subset")
    table = folder / "song_describer.jsonl"
    JsonLines(table).write(rows)
    return table


def _write_music_instruct(folder: Path) -> Path:
    """Write the questions of the test split with their clips' windows, in the published form."""
    (captions,) = locate(MUSICCAPS, ["musiccaps-public.csv", ".csv"])
    windows = clip_windows(read_musiccaps(captions).rows)
    records: list[dict[str, Any]] = []
    for path in locate(MUSIC_INSTRUCT, ALL_QUESTIONS):
        found = read_music_instruct(path, windows)
        log_problems(found.problems, 20)
        for row in found.rows:
            clip = parse_clip_id(row.clip_id)
            if row.split == "test" and clip is not None:
                records.append({
                    "ytid": clip[0], "start_s": clip[1], "end_s": clip[2], "question_type": row.question_type,
                    "question": row.question, "answer": row.answer, "is_audioset_eval": True,
                })  # fmt: skip
    if not records:
        raise ValueError(f"{MUSIC_INSTRUCT}: holds no question of the test split")
    write_whole(folder / "musicinstruct.json", json.dumps({"QA": records}, ensure_ascii=False))
    return folder / "musicinstruct.json"


def _read_csv(path: Path, audio_dir: str | None) -> Iterator[dict[str, Any]]:
    """Give the rows of Song Describer's CSV; its sounds are named `path` or, cut to two minutes, `….2min.mp3`."""
    folder = Path(audio_dir) if audio_dir else path.parent / "audio"
    for _, record in read_table(path).select(SONG_COLUMNS):
        if isinstance(record, Problem):
            log_problems([record])
        elif _is_valid(record):
            named = folder / str(record["path"])
            cut = named.with_suffix(f".2min{named.suffix}")
            yield _as_row(record, cut if cut.is_file() else named)


def _read_shards(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the rows of the set on the Hub, whose sounds are written beside the table, each once."""
    from pyarrow import parquet

    (folder / "sounds").mkdir(parents=True, exist_ok=True)
    for path in fetch_files(SONG_DESCRIBER):
        file = parquet.ParquetFile(path)
        column = find_audio_column(file.schema_arrow, str(path))
        for batch in file.iter_batches(8):
            for record in batch.to_pylist():
                if _is_valid(record):
                    sound = folder / "sounds" / f"{int(record['track_id'])}.mp3"
                    if not sound.exists():
                        write_whole(sound, record[column]["bytes"])
                    yield _as_row(record, sound)


def _is_valid(record: dict[str, Any]) -> bool:
    return str(record.get(VALID, True)).lower() in ("true", "1")


def _as_row(record: dict[str, Any], sound: Path) -> dict[str, Any]:
    clip = str(record["track_id"])
    return {"audio": str(sound.resolve()), "clip_id": clip, "caption": record["caption"], "split": "test"}

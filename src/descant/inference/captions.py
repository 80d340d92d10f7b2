"""Captions out of answers: those of each recording in order, joined under the stamps of their windows."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from descant.data.audio import format_stamp

Record = dict[str, Any]


def order_records(records: Iterable[Record], audio: Sequence[str], questions: Sequence[str | None]) -> list[Record]:
    """Records in the order of recordings, windows and questions; what is not in `audio` any more comes last."""
    places = {name: place for place, name in enumerate(audio)}
    turns = {question: turn for turn, question in enumerate(questions)}

    def key(record: Record) -> tuple[int, str, bool, float, int]:
        place, name, start_s = places.get(record["audio"], len(places)), record["audio"], record["start_s"]
        return place, name, start_s is None, start_s or 0.0, turns.get(record["question"], len(turns))

    return sorted(records, key=key)


def join_answers(records: Iterable[Record]) -> str:
    """`[0:00–0:10] answer answer [0:10–0:20] …` out of one recording's records, which are in order."""
    parts = []
    for (start_s, end_s), window in groupby(records, key=itemgetter("start_s", "end_s")):
        parts += [f"[{format_stamp(start_s, end_s)}]", *(record["prediction"] for record in window)]
    return " ".join(" ".join(parts).split())


def format_captions(records: Iterable[Record]) -> str:
    """A CSV with the reference's columns, audio_path and caption; recordings that could not be read have no row."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["audio_path", "caption"])
    answered = (record for record in records if record["error"] is None)
    for audio, group in groupby(answered, key=itemgetter("audio")):
        rows.writerow([audio, join_answers(group)])
    return text.getvalue()

"""Tests of how a classification reads, as text and as JSON."""

import json

from descant.inference.classification import Classification, Evidence, NamedLabel
from descant.inference.track_parts import Piece

EVIDENCE = [
    Evidence(Piece("lyrics", "first line\nsecond line"), 0.214),
    Evidence(Piece("captions", "jazz", "What is the genre?", ((0, 10), (20, 30), (30, 35))), 0.1),
    Evidence(Piece("audio", spans=((10, 20),)), 0.0123),
]
FOUND = Classification(
    "song.mp3", "model", "captioner", [NamedLabel("jazz", 0.91, EVIDENCE), NamedLabel("jazz---bebop", 0.4)],
    {"jazz": 0.91, "jazz---bebop": 0.4}, ["lyrics", "audio"], ["HTML was taken out"],
)  # fmt: skip


def test_under_each_label_stand_the_pieces_it_rests_on() -> None:
    assert FOUND.to_text().splitlines() == [
        "song.mp3  (from lyrics, audio)",
        "  91.0 %  jazz",
        "      -21.4  lyrics  first line / second line",
        "      -10.0  captions  0:00–0:10, 0:20–0:35  What is the genre?  jazz",
        "      -1.2  audio  0:10–0:20",
        "  40.0 %  jazz---bebop",
    ]


def test_json_is_one_line_with_everything() -> None:
    line = FOUND.to_json()
    record = json.loads(line)
    assert "\n" not in line
    assert record["labels"][0]["evidence"][1] == {
        "kind": "captions", "text": "jazz", "question": "What is the genre?", "spans": [[0, 10], [20, 30], [30, 35]],
        "drop": 0.1,
    }  # fmt: skip
    assert record["scores"] == {"jazz": 0.91, "jazz---bebop": 0.4}
    assert (record["notes"], record["error"]) == (["HTML was taken out"], None)

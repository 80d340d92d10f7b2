"""Small MusicCaps and MusicInstruct files, and sound for their clips."""

import json
from pathlib import Path

import numpy as np
import soundfile

COLUMNS = "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,"
COLUMNS += "is_audioset_eval\n"


def is_test(number: int) -> bool:
    return number % 4 == 3


def write_musiccaps(path: Path, clips: int) -> Path:
    lines = [f"clip{i:04d},30,40,/m/1,\"['pop', 'sad']\",song {i},4,False,{is_test(i)}\n" for i in range(clips)]
    path.write_text(COLUMNS + "".join(lines))
    return path


def write_music_instruct(folder: Path, clips: int, short: int = 3, long: int = 2) -> Path:
    folder.mkdir(exist_ok=True)
    for kind, count in (("short", short), ("long", long)):
        pairs = [
            {"ytid": f"clip{i:04d}", "question": f"{kind} {j}?", "answer": f"yes {i}", "is_audioset_eval": is_test(i)}
            for i in range(clips)
            for j in range(count)
        ]
        (folder / f"music_instruct_{kind}.json").write_text(json.dumps({"QA": pairs}))
    return folder


def write_clips(folder: Path, numbers: range) -> Path:
    folder.mkdir(exist_ok=True)
    for i in numbers:
        samples = 0.3 * np.sin(2 * np.pi * (200 + 7 * i) * np.arange(16_000) / 16_000)
        soundfile.write(folder / f"[clip{i:04d}]-[30-40].flac", samples, 16_000)
    return folder

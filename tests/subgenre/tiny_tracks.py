"""A collection of a few tracks whose lyrics tell the genre and whose sound has one tone a subgenre."""

import csv
from pathlib import Path

from tiny import write_song

from descant.subgenre.recipe import SubgenreRecipe
from descant.subgenre.run import read_job
from descant.subgenre.training import SubgenreJob

LYRICS = {"jazz": "smoky midnight taxi", "pop": "dance all night baby"}
SUBGENRES = {"jazz": ("swing", "bebop"), "pop": ("disco", "ballad")}
SPLITS = ("train", "train", "train", "train", "validation", "test")

RECIPE = SubgenreRecipe(name="subgenre", questions=("What is the genre?",), settings={"learning_rate": 1e-2})
SMALL = (
    "--num_train_epochs", "2", "--per_device_train_batch_size", "4", "--text_hidden_size", "16", "--hidden_size", "16",
    "--vocabulary", "400", "--window_tokens", "32", "--overlap_tokens", "4", "--seeds", "2", "--disable_tqdm", "True",
    "--report_to", "none", "--use_cpu", "True",
)  # fmt: skip


def write_tracks(folder: Path, audio: bool = True) -> Path:
    """Writes 24 tracks, of which every third is instrumental, and returns the table."""
    rows = []
    for genre, names in SUBGENRES.items():
        for tone, name in enumerate(names):
            for number, split in enumerate(SPLITS):
                track = f"{name}-{number}"
                row = {"id": track, "genre": genre, "subgenres": name, "split": split, "artist": f"{split} {number}"}
                row["lyrics"] = "" if number % 3 == 2 else f"{LYRICS[genre]} {name} {number}"
                row["audio"] = f"{track}.wav" if audio else ""
                rows.append(row)
                if audio:
                    write_song(folder / f"{track}.wav", seconds=1, rate=16_000, start_hertz=110.0 * (tone + 1))
    path = folder / "tracks.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_job(folder: Path, *more: str) -> SubgenreJob:
    where = ["--output_dir", str(folder / "run"), "--features", str(folder / "features")]
    return read_job(RECIPE, [*SMALL, *where, *more])

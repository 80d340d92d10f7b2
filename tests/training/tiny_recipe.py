"""A whole recipe in seconds: two stages over four made-up songs, from data on disk to a model folder with its card."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # for scripts; pytest puts it there itself

from tiny import save_tiny_model, write_song

from descant.training import Recipe, Stage, run
from descant.training.trainer import DescantTrainer

RECIPE = Recipe(name="mi_short_long", stages=(Stage("short", 1), Stage("long", 2)))
QUESTIONS = ("Which instruments play?", "What is the genre?", "How fast is it?")
ANSWERS = ("a slow piano", "jazz rock", "a loud guitar and drums", "slow")


def write_corpus(folder: Path, save_start: Callable[[Path], Path] = save_tiny_model) -> None:
    """Songs, questions and a model to start from."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(4):
        song = write_song(folder / f"song{number}.wav", seconds=3, rate=16_000, start_hertz=110 * (number + 1))
        split = "validation" if number == 3 else "train"
        answers = ANSWERS[number:] + ANSWERS[:number]
        rows += [
            {"audio": song.name, "question": question, "answer": answer, "split": split}
            for question, answer in zip(QUESTIONS, answers, strict=False)
        ]
    with (folder / "songs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "start").symlink_to(save_start(folder / "start_model"))


def run_recipe(
    corpus: Path, output_dir: Path, prepare: Callable[[DescantTrainer], None], **more: object
) -> None:
    """As its script runs a recipe, with `prepare` called on the trainer; `more` settings beside its own."""
    arguments = {
        "dataset": corpus / "songs.csv", "init_from": corpus / "start", "features": corpus / "features",
        "output_dir": output_dir, "num_train_epochs": 3, "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2, "save_steps": 2, "eval_steps": 3, "eval_answers": 2, "augment": True,
        "save_total_limit": 2, "learning_rate": "1e-2", "disable_tqdm": True, "use_cpu": True, "max_grad_norm": 1.0,
        **more,
    }  # fmt: skip
    job = run.read_job(RECIPE, [f"--{name}={value}" for name, value in arguments.items()])
    build = run.build_trainer

    def build_prepared(*parts: object) -> DescantTrainer:
        trainer = build(*parts)
        prepare(trainer)
        return trainer

    run.build_trainer = build_prepared
    try:
        run.run(job)
    finally:
        run.build_trainer = build

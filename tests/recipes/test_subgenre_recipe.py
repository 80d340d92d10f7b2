"""The subgenre recipe trains on a few tracks of the embedded corpus, with a captioner that is given."""

import importlib.util
from pathlib import Path

from tiny import save_tiny_model
from transformers import AutoModelForSequenceClassification, AutoProcessor

from descant.subgenre.run import read_job, run

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "subgenre.py"


def test_recipe_trains_on_the_demo_and_writes_table_and_card(tmp_path):
    spec = importlib.util.spec_from_file_location("subgenre", RECIPE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    captioner = save_tiny_model(tmp_path / "captioner")
    job = read_job(
        module.RECIPE,
        ["--demo", "--captioner", str(captioner), "--features", str(tmp_path / "features"),
         "--max_tracks", "6", "--num_train_epochs", "1", "--no_compare", "--output_dir", str(tmp_path / "run"),
         "--disable_tqdm", "True"],
    )  # fmt: skip
    folder = run(job)
    AutoModelForSequenceClassification.from_pretrained(folder)
    AutoProcessor.from_pretrained(folder)
    assert "| fusion | " in (folder / "subgenres.md").read_text()
    assert "descant classify" in (folder / "README.md").read_text()

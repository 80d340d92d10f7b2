"""Put a trained model into the package, as the model in the box: half the digits of its weights, card and notice.

    python datasets_scripts/pack_box.py outputs/box
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForMultimodalLM

import descant  # noqa: F401  (makes the Auto classes know the model)
from descant.models import box
from descant.models.musicnn import PRETRAINED

# Of the generator's renderings and of the real recordings in the split `train`.
LICENCES = "apache-2.0, mit, cc-by-3.0"
KEPT = (
    "config.json", "generation_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "decision.json", "training_data.json", "training_facts.json", "training_log.jsonl",
    "training_clips.txt.gz", "run.json",
)  # fmt: skip
NOTICE = """\
The model in this folder hears through the networks of musicnn, which are not in it: they lie in
descant/models/musicnn/pretrained, are their authors' and come under the ISC licence below. What they were trained on
has terms of its own: the sound of MagnaTagATune is for non-commercial use.

The weights in this folder are descant's, under Apache-2.0. Some were trained on states that musicnn's networks compute
from sound, none on the networks' training data.

musicnn:

"""


def main() -> None:
    """Pack a run's folder into the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run of recipes/box.py")
    parser.add_argument("--card", type=Path, help="the card's text (default: the one that is there)")
    args = parser.parse_args()
    box.FOLDER.mkdir(exist_ok=True)
    model = AutoModelForMultimodalLM.from_pretrained(args.run, dtype=torch.float16)
    model.config.audio_config._name_or_path = str(model.config.audio_model_id)  # no folder of this machine
    model.save_pretrained(box.FOLDER)
    for path in box.FOLDER.glob("*.py"):  # descant has the code
        path.unlink()
    for name in KEPT[2:]:
        if (args.run / name).exists():
            shutil.copy(args.run / name, box.FOLDER / name)
    name_data(box.FOLDER / "training_data.json")
    join_runs(args.run, box.FOLDER)
    (box.FOLDER / "NOTICE").write_text(NOTICE + (PRETRAINED / "LICENSE").read_text(encoding="utf-8"), encoding="utf-8")
    if args.card:
        shutil.copy(args.card, box.FOLDER / "README.md")
    size = sum(path.stat().st_size for path in box.FOLDER.iterdir())
    print(f"{box.FOLDER}: {size / 1e6:.2f} MB")


def join_runs(run: Path, folder: Path) -> None:
    """Write the settings and curves of a run, and before them those of the runs that it began from, into a folder."""
    runs = [run]
    while start := json.loads((runs[0] / "run.json").read_text(encoding="utf-8"))["init_from"]:
        runs.insert(0, run.parent.parent / start)
    settings = [json.loads((one / "run.json").read_text(encoding="utf-8")) for one in runs]
    together = settings[-1] | {"earlier_runs": settings[:-1]}
    (folder / "run.json").write_text(json.dumps(together, indent=2) + "\n", encoding="utf-8")
    curves = "".join((one / "training_log.jsonl").read_text(encoding="utf-8") for one in runs)
    (folder / "training_log.jsonl").write_text(curves, encoding="utf-8")


def name_data(path: Path) -> None:
    """Name the rows and their licences in the record of what the model was trained on."""
    records = json.loads(path.read_text(encoding="utf-8"))
    named = [record | {"id": "descant/box", "licence": LICENCES} for record in records[-1:]]
    path.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Loads the dataset scripts as scripts on datasets 3.6, the last that does so, beside the datasets that is installed.
#
#     tests/datasets_scripts/load_on_datasets_3.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m pip install --quiet --no-deps --target "$work/site" "datasets==3.6.0" "dill<0.3.9" "multiprocess<0.70.17" \
    "fsspec<=2025.3.0"
PYTHONPATH="$work/site:tests/datasets_scripts" HF_HOME="$work/home" python - "$work" <<'CODE'
import sys
from pathlib import Path

import datasets
from annotation_files import write_music_instruct, write_musiccaps

work = Path(sys.argv[1])
table, folder = write_musiccaps(work / "caps.csv", 40), write_music_instruct(work / "mi", 40)
print("datasets", datasets.__version__)
given = {"trust_remote_code": True, "cache_dir": str(work / "cache")}
captions = datasets.load_dataset("datasets_scripts/musiccaps.py", "captions", annotations=str(table), **given)
assert sum(len(part) for part in captions.values()) == 40
print(captions)
for config, rows in (("short", 120), ("long", 80), ("all", 200)):
    sources = {"annotations": str(folder), "musiccaps": str(table)}
    questions = datasets.load_dataset("datasets_scripts/music_instruct.py", config, **sources, **given)
    assert sum(len(part) for part in questions.values()) == rows
print(questions)
CODE

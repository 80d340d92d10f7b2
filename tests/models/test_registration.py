"""Tests that Auto classes know the model after `import descant`, and that nothing is imported before its time."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from tiny import save_tiny_model

from descant.models.registration import MAPPINGS, MODELS

CHECK = """
{imports}
from transformers import AutoFeatureExtractor, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, AutoProcessor
from transformers import pipeline

for auto in (AutoFeatureExtractor, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM, AutoProcessor):
    assert type(auto.from_pretrained({folder!r})).__module__.startswith("descant."), auto
model = pipeline("music-question-answering", model={folder!r}).model
assert type(model).__module__.startswith("descant.")
"""


def run_python(code: str) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "import descant; from transformers import AutoConfig",
        "from transformers import AutoModelForSeq2SeqLM, pipeline; import descant",
        "from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration",
    ],
)
def test_auto_classes_and_pipelines_know_the_model_in_any_order_of_imports(tmp_path: Path, imports: str) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    run_python(CHECK.format(imports=imports, folder=folder))


def test_every_class_of_the_table_is_in_its_folder() -> None:
    for model_type, classes in MODELS.items():
        folder = import_module(f"descant.models.{model_type}")
        assert getattr(folder, classes["AutoConfig"]).model_type == model_type
        assert all(hasattr(folder, name) for name in classes.values())
        assert set(classes) <= set(MAPPINGS)


def test_importing_descant_imports_neither_torch_nor_transformers() -> None:
    run_python("import sys, descant; assert not {'torch', 'transformers'} & sys.modules.keys()")

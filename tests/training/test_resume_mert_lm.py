"""Stage 2 of a MertLM, killed and run again, ends bit for bit as the run that was never killed."""

import sys
from pathlib import Path

import pytest
from kill_sweep import Sweep
from tiny_mert_lm import save_tiny_mert_lm

LORA = {"lora": True, "lora_rank": 2, "augment": False, "rows_per_clip": 2}


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_killed_stage_resumes_bit_equal_from_its_few_weights(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, recipe=True, save_start=save_tiny_mert_lm, **LORA)
    for name, share in (("early", 0.3), ("late", 0.8)):
        assert sweep.survives(name, fatal=int(share * sweep.points))
    checkpoints = list(sweep.reference.glob("checkpoint-*"))
    assert checkpoints
    for folder in checkpoints:
        assert not (folder / "model.safetensors").exists()
        assert (folder / "adapter_model.safetensors").stat().st_size < 100_000

"""Model folders of kilobytes, as training leaves them."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import save_tiny_model

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration, LPMusicCapsProcessor

NC_DATA = {
    "id": "tester/music", "revision": "abc", "configs": ["short"], "split": "train", "licence": "cc-by-nc-4.0",
    "clips": 2663,
}  # fmt: skip
FREE_DATA = {**NC_DATA, "id": "tester/free", "licence": "cc0-1.0"}
RUN = {"recipe": "mi_all", "stages": [["all", 100]], "init_from": "/home/someone/runs/transfer", "learning_rate": 1e-4}
SCORES = {
    "protocol": "lp_musiccaps", "dataset": "tester/music", "config": "short", "split": "test", "n": 2858,
    "bleu1": 0.29123, "length_avg": 44.1, "intervals": {"bleu1": [0.28, 0.3], "length_avg": [43.0, 45.0]},
}  # fmt: skip


@pytest.fixture
def model_folder(tmp_path):
    """A trained model with data for non-commercial use, a run's leftovers beside it."""
    folder = save_tiny_model(tmp_path / "mi_all")
    for name, value in {"training_data": [NC_DATA], "run": RUN, "scores": SCORES}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    torch.save({}, folder / "training_args.bin")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def adapter_folder(tmp_path):
    """LoRA weights of a base whose folder is this machine's; everything in them is random, not zero."""
    base = LPMusicCapsForConditionalGeneration.from_pretrained(save_tiny_model(tmp_path / "base"))
    wanted = {"target_modules": base.lora_target_modules, "modules_to_save": list(base.lora_modules_to_save)}
    model = get_peft_model(base, LoraConfig(r=2, **wanted))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    LPMusicCapsProcessor.from_pretrained(tmp_path / "base").save_pretrained(folder)
    (folder / "training_data.json").write_text(json.dumps([FREE_DATA]))
    return folder

"""FSDP2 trains the tied model for real, alike with one process, and its checkpoints load without it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.utils import DistributedType
from forked_python import run_ranks
from fsdp_run import STEPS, build_sharded_trainer
from safetensors.torch import load_file

from descant.models.lp_music_caps import LPMusicCapsForConditionalGeneration
from descant.training.trainer import embeddings_in_the_root, keep_class_name, require_fsdp2

SCRIPT = Path(__file__).with_name("fsdp_run.py")
LAST = f"checkpoint-{STEPS}"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("sharded") / "run"
    return output_dir, run_ranks(2, SCRIPT, output_dir, "--fsdp")[0]


def test_each_rank_holds_its_shard_of_every_weight(sharded):
    ranks = [line for line in sharded[1].splitlines() if line.startswith("RANK")]
    assert len(ranks) == 2
    for line in ranks:
        assert "LPMusicCapsForConditionalGeneration {'DTensor'}" in line
        assert 0.45 < float(line.split(" of all here")[0].split()[-1]) < 0.55


def test_checkpoint_loads_without_fsdp_and_equals_one_process_with_the_same_batch(sharded, tmp_path):
    build_sharded_trainer(tmp_path, batch_size=6).train(resume_from_checkpoint="auto")
    single = LPMusicCapsForConditionalGeneration.from_pretrained(tmp_path / LAST)
    loaded = LPMusicCapsForConditionalGeneration.from_pretrained(sharded[0] / LAST)
    assert (
        load_file(sharded[0] / LAST / "model.safetensors").keys()
        == load_file(tmp_path / LAST / "model.safetensors").keys()
    )
    assert loaded.config.architectures == ["LPMusicCapsForConditionalGeneration"]
    assert loaded.lm_head.weight is loaded.model.shared.weight
    for (name, one), (_, other) in zip(single.named_parameters(), loaded.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


def test_checkpoint_names_and_carries_the_models_own_code(sharded):
    config = json.loads((sharded[0] / LAST / "config.json").read_text())
    assert config["auto_map"]["AutoModelForSeq2SeqLM"] == "modeling_lp_music_caps.LPMusicCapsForConditionalGeneration"
    code = {path.name for path in (sharded[0] / LAST).glob("*.py")}
    assert "modeling_lp_music_caps.py" in code and not [name for name in code if name.startswith("_")]


def test_unsharded_model_is_refused():
    with pytest.raises(ValueError, match="FSDP was asked for, but Linear is not sharded"):
        keep_class_name(torch.nn.Linear(1, 1))


def test_resumed_run_is_bit_equal(sharded, tmp_path):
    parted = shutil.copytree(sharded[0], tmp_path / "run")
    shutil.rmtree(parted / LAST)
    run_ranks(2, SCRIPT, parted, "--fsdp")
    weights = [load_file(folder / LAST / "model.safetensors") for folder in (sharded[0], parted)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    states = [torch.load(folder / LAST / "optimizer.bin")["state"] for folder in (sharded[0], parted)]
    assert all(torch.equal(states[0][name]["exp_avg"], states[1][name]["exp_avg"]) for name in states[0])


class StubAccelerator:
    def __init__(self, distributed_type, is_fsdp2=False):
        self.distributed_type, self.is_fsdp2 = distributed_type, is_fsdp2
        self.num_processes, self.device = 2, torch.device("cpu")


def test_silent_fallback_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="FSDP was asked for, but accelerate runs MULTI_CPU on 2 × cpu"):
        require_fsdp2(StubAccelerator(DistributedType.MULTI_CPU))
    require_fsdp2(StubAccelerator(DistributedType.FSDP, is_fsdp2=True))
    with pytest.raises(ValueError, match="set fsdp_version: 2"):
        require_fsdp2(StubAccelerator(DistributedType.FSDP))


def test_run_without_fsdp_is_left_alone(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    require_fsdp2(StubAccelerator(DistributedType.MULTI_CPU))


def test_embeddings_are_hidden_for_the_sharding_only(tmp_path):
    model = build_sharded_trainer(tmp_path, batch_size=1).model
    with embeddings_in_the_root(model):
        assert model.get_input_embeddings() is None and model.get_output_embeddings() is None
    assert model.get_input_embeddings() is model.model.shared

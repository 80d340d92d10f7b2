"""A run of four steps of the real model's tiny form; under torch.distributed.run with --fsdp, sharded over CPU ranks.

accelerate shards over GPUs only: on the processor its state is told that FSDP2 runs, and all else is the real path.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from tiny_run import EvalRows, RandomTokens, TinyTrainer, build_arguments
from transformers import set_seed

from descant.models.lp_music_caps import LPMusicCapsConfig, LPMusicCapsForConditionalGeneration
from descant.training.trainer import FullySharded

STEPS = 4


class ShardedTrainer(FullySharded, TinyTrainer):
    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """The loss without logits, which reads the head's weight beside the layers that are sharded."""
        return super().compute_loss(model, {**inputs, "label_smoothing": 0.1}, *args, **options)


class RandomClips(RandomTokens):
    """Random log-mels, with questions and answers of random tokens; whole batches of six fill an epoch."""

    def __len__(self) -> int:
        return 36

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        item = super().__getitem__(row)
        mel = torch.randn(128, 1001, generator=torch.Generator().manual_seed(row))
        prompt = {"prompt_input_ids": item.pop("input_ids"), "prompt_attention_mask": torch.ones(6, dtype=torch.long)}
        return {**item, **prompt, "input_features": mel}


def build_sharded_trainer(output_dir: str | Path, batch_size: int) -> ShardedTrainer:
    """Without dropout, so that one process and two agree."""
    set_seed(0)
    config = LPMusicCapsConfig(
        vocab_size=32, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=256, dropout=0.0,
    )  # fmt: skip
    args = build_arguments(
        output_dir, max_steps=STEPS, save_steps=2, per_device_train_batch_size=batch_size, eval_strategy="no",
        max_grad_norm=0.5, label_smoothing_factor=0.0, ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
    )  # fmt: skip
    model = LPMusicCapsForConditionalGeneration(config)
    return ShardedTrainer(model, args, train_dataset=RandomClips(), eval_dataset=EvalRows())


def shard_on_cpu(trainer: ShardedTrainer) -> None:
    """Makes accelerate's shared state that of a GPU run under accelerate_configs/fsdp2.yaml."""
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", state_dict_type="FULL_STATE_DICT",
        transformer_cls_names_to_wrap=["BartEncoderLayer", "BartDecoderLayer"], reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
    )  # fmt: skip
    for state in (AcceleratorState, PartialState):
        state._shared_state["distributed_type"] = DistributedType.FSDP
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    trainer.is_fsdp_enabled = True


def main() -> None:
    torch.set_num_threads(1)
    trainer = build_sharded_trainer(sys.argv[1], batch_size=3)
    if "--fsdp" in sys.argv:
        shard_on_cpu(trainer)
    trainer.train(resume_from_checkpoint="auto")
    kinds = {type(parameter).__name__ for parameter in trainer.model.parameters()}
    local = sum(parameter.to_local().numel() for parameter in trainer.model.parameters())
    total = sum(parameter.numel() for parameter in trainer.model.parameters())
    line = f"RANK {trainer.args.process_index} {type(trainer.model).__name__} {kinds} {local / total:.3f} of all here"
    print(line + "\n", end="", flush=True)  # in one piece: the other rank writes to the same pipe
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()

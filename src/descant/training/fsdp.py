"""Mixin for a `transformers.Trainer` that really shards a model with tied embeddings when FSDP is asked for."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule


class FullySharded:
    """Goes before `Trainer` among the bases; without FSDP it changes nothing."""

    def _prepare_for_training(self, *args: Any, **options: Any) -> Any:
        require_fsdp2(self.accelerator)
        with embeddings_in_the_root(self.model):
            prepared = super()._prepare_for_training(*args, **options)
        if self.accelerator.is_fsdp2:
            keep_class_name(self.accelerator.unwrap_model(self.model))
        return prepared

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        if state_dict is not None:
            # Gathered from its shards, a tied weight is a tensor of its own under each name.
            tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
            state_dict = {name: weight for name, weight in state_dict.items() if name not in tied}
        super()._save(output_dir, state_dict)


def require_fsdp2(accelerator: Accelerator) -> None:
    """Raises ValueError where `accelerate launch` was told to use FSDP and something else would run.

    On the processor, and with one process, accelerate falls back without a word: every process then holds all of the
    model.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and accelerator.distributed_type != DistributedType.FSDP:
        raise ValueError(
            f"FSDP was asked for, but accelerate runs {accelerator.distributed_type.value} on "
            f"{accelerator.num_processes} × {accelerator.device.type}: give it two or more GPUs, or a configuration "
            "without FSDP"
        )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError("FSDP of version 1 was asked for: set fsdp_version: 2 in the accelerate configuration")


def keep_class_name(model: torch.nn.Module) -> None:
    """Gives the sharded model's class, which torch makes on the fly, the name and module of the model's own.

    `save_pretrained` writes both into `auto_map` and copies that module's file: torch's would be published otherwise.

    Raises:
        ValueError: the model is not sharded.
    """
    if not isinstance(model, FSDPModule):
        raise ValueError(f"FSDP was asked for, but {type(model).__name__} is not sharded")
    own = next(base for base in type(model).__mro__[1:] if not issubclass(base, FSDPModule))
    type(model).__name__, type(model).__module__ = own.__name__, own.__module__


@contextlib.contextmanager
def embeddings_in_the_root(model: torch.nn.Module) -> Iterator[None]:
    """Hides the embeddings from accelerate while it shards `model`.

    accelerate (1.15) puts the input embedding and the head into a group of their own. Where the encoder's and
    decoder's embeddings are tied to them, their common weight would then belong to that group and to the root, which
    torch (2.13) refuses. Hidden, all of them stay in the root group beside whatever is in no layer.
    """
    names = ("get_input_embeddings", "get_output_embeddings")
    for name in names:
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)

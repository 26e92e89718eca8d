"""The settings in Gemma 3's config.json that a GGUF carries, checked against what llama.cpp does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from gateway.models.errors import ConversionError
from gateway.models.safetensors import read_object

_ARCHITECTURES: Final = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
_PATTERN: Final = 6  # llama.cpp makes every sixth layer of a Gemma 3 global
_LOCAL_BASE: Final = 10_000.0
_LARGEST: Final = 62  # layers of the 27B, whose attention is scaled in its own way

# What Hugging Face assumes for a Gemma 3 where config.json says nothing (the 4B leaves much out).
_DEFAULTS: Final[dict[str, Any]] = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 131_072, "sliding_window": 4096, "query_pre_attn_scalar": 256,
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 1_000_000.0,
    "rope_local_base_freq": _LOCAL_BASE, "tie_word_embeddings": True, "sliding_window_pattern": _PATTERN,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The sizes and constants of one Gemma 3 text model."""

    name: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    context: int
    window: int
    epsilon: float
    global_base: float
    local_base: float
    scaling: float | None
    softcap: float | None
    tied: bool


def read_settings(folder: Path) -> Settings:
    """Return the settings in a folder's config.json, or raise ConversionError."""
    if not folder.is_dir():
        raise ConversionError(f"{folder} is not a folder; give the folder that holds config.json.")
    config = read_object(folder / "config.json")
    names = cast("list[str]", config.get("architectures") or [])
    if not any(name in _ARCHITECTURES for name in names):
        raise ConversionError(
            f"{folder} holds {', '.join(names) or 'a model without an architecture'}; "
            "only Gemma 3 (Gemma3ForCausalLM) can be converted. Give a GGUF file instead."
        )
    text = cast("dict[str, Any]", config.get("text_config") or {})
    return _settings(folder.resolve().name, {**_DEFAULTS, **config, **text})


def _settings(name: str, config: dict[str, Any]) -> Settings:
    _check_kind(config)
    _check_layers(config)
    _check_scale(config)
    whole, local, scaling = _rope(config)
    if local != _LOCAL_BASE:
        raise ConversionError(f"Sliding layers turn with base {local:g}; llama.cpp's Gemma 3 fixes 10000.")
    return Settings(
        name=name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        inner=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        context=config["max_position_embeddings"],
        window=config["sliding_window"],
        epsilon=config["rms_norm_eps"],
        global_base=whole,
        local_base=local,
        scaling=scaling,
        softcap=config.get("final_logit_softcapping"),
        tied=config["tie_word_embeddings"],
    )


def _check_kind(config: dict[str, Any]) -> None:
    """Refuse what changes the network in a way that a GGUF of Gemma 3 cannot say."""
    if config["hidden_activation"] != "gelu_pytorch_tanh":
        raise ConversionError(f"Activation {config['hidden_activation']} is not Gemma 3's.")
    for field in ("attention_bias", "attn_logit_softcapping", "use_bidirectional_attention", "quantization_config"):
        if config.get(field):
            raise ConversionError(f"config.json sets {field}, which llama.cpp's Gemma 3 cannot do.")


def _check_layers(config: dict[str, Any]) -> None:
    """Refuse another order of sliding and global layers than llama.cpp assumes."""
    count: int = config["num_hidden_layers"]
    expected = ["full_attention" if (i + 1) % _PATTERN == 0 else "sliding_attention" for i in range(count)]
    found = config.get("layer_types")
    if found is None:
        period = int(config.get("_sliding_window_pattern", config["sliding_window_pattern"]))
        found = ["full_attention" if (i + 1) % period == 0 else "sliding_attention" for i in range(count)]
    if found != expected:
        raise ConversionError("The order of sliding and global layers differs: llama.cpp makes every sixth global.")


def _check_scale(config: dict[str, Any]) -> None:
    """Refuse another scale of attention scores than llama.cpp derives from the sizes."""
    expected = config["head_dim"]
    if config["num_hidden_layers"] == _LARGEST:
        expected = config["hidden_size"] // config["num_attention_heads"]
    if config["query_pre_attn_scalar"] != expected:
        raise ConversionError(
            f"query_pre_attn_scalar is {config['query_pre_attn_scalar']}; llama.cpp computes with {expected}."
        )


def _rope(config: dict[str, Any]) -> tuple[float, float, float | None]:
    """Return the global base, the local base and the global factor of linear scaling."""
    parameters = cast("dict[str, dict[str, Any]]", config.get("rope_parameters") or {})
    whole, local = parameters.get("full_attention", {}), parameters.get("sliding_attention", {})
    scaling = whole or cast("dict[str, Any]", config.get("rope_scaling") or {})
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in ("default", "linear"):
        raise ConversionError(f"RoPE scaling {kind!r} is not Gemma 3's.")
    bases = (
        float(whole.get("rope_theta", config["rope_theta"])),
        float(local.get("rope_theta", config["rope_local_base_freq"])),
    )
    return (*bases, float(scaling["factor"]) if kind == "linear" else None)

"""Turn a training checkpoint into the Hugging Face folder and the GGUF that are shipped.

python -m gateway.models.training.export --checkpoint DIR/checkpoint.pt --out gateway/models/bundled
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from gateway.models import convert
from gateway.models.training import tokenizer

_TEMPLATE: Final = Path(__file__).with_name("chat_template.jinja")
_CONTEXT: Final = 8192


def hf_name(name: str) -> str:
    """Return a parameter's name as Hugging Face's Gemma 3 has it."""
    for projection in ("gate_proj", "up_proj", "down_proj"):
        name = name.replace(f".{projection}.", f".mlp.{projection}.")
    return f"model.{name}"


def weights(checkpoint: dict[str, Any], *, averaged: bool) -> dict[str, torch.Tensor]:
    """Return the weights in bf16, what vLLM computes in, under Hugging Face's names."""
    source = checkpoint["average"] if averaged else checkpoint["model"]
    return {hf_name(name): weight.to(torch.bfloat16).contiguous() for name, weight in source.items()}


def config(shape: dict[str, Any]) -> dict[str, Any]:
    """Return config.json."""
    base = shape["rope_local_base_freq"]
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": shape["vocab_size"],
        "hidden_size": shape["hidden_size"],
        "intermediate_size": shape["intermediate_size"],
        "num_hidden_layers": shape["num_hidden_layers"],
        "num_attention_heads": shape["num_attention_heads"],
        "num_key_value_heads": shape["num_key_value_heads"],
        "head_dim": shape["head_dim"],
        "query_pre_attn_scalar": shape["head_dim"],
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": shape["rms_norm_eps"],
        "max_position_embeddings": _CONTEXT,
        "sliding_window": shape["sliding_window"],
        "layer_types": ["sliding_attention"] * shape["num_hidden_layers"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": base},
        },
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": base,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "pad_token_id": tokenizer.PAD,
        "eos_token_id": [tokenizer.EOS, tokenizer.END_OF_TURN],
        "bos_token_id": tokenizer.BOS,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tokenizer_files(kept: Path, out: Path) -> None:
    shutil.copyfile(kept, out / "tokenizer.json")
    shutil.copyfile(_TEMPLATE, out / "chat_template.jinja")
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    _write(out / "special_tokens_map.json", special)
    added = {
        str(number): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for number, token in enumerate(tokenizer.SPECIAL)
    }  # fmt: skip
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "add_eos_token": False,
        "clean_up_tokenization_spaces": False, "model_max_length": _CONTEXT,
        "added_tokens_decoder": added, **special,
    }  # fmt: skip
    _write(out / "tokenizer_config.json", settings)


def export(checkpoint: Path, out: Path, *, averaged: bool = True) -> None:
    """Write hf/ and gemma-3-askonce.gguf under `out` from a checkpoint."""
    state = torch.load(checkpoint, map_location="cpu")
    folder = out / "hf"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(state, averaged=averaged), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    _write(folder / "config.json", config(state["shape"]))
    generation = {
        "bos_token_id": tokenizer.BOS, "pad_token_id": tokenizer.PAD,
        "eos_token_id": [tokenizer.EOS, tokenizer.END_OF_TURN],
    }  # fmt: skip
    _write(folder / "generation_config.json", generation)
    _tokenizer_files(checkpoint.with_name("tokenizer.json"), folder)
    convert.convert(folder, out / "gemma-3-askonce.gguf")


def main() -> None:
    """Export as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--last", action="store_true", help="the last weights, not their running average")
    options = parser.parse_args()
    export(options.checkpoint, options.out, averaged=not options.last)


if __name__ == "__main__":
    main()

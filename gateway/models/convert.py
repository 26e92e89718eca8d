"""Convert a Hugging Face folder of Gemma 3 to the GGUF file that llama.cpp loads.

    python -m gateway.models.convert FOLDER TARGET

Needs numpy and gguf; a folder with a tokenizer.model needs sentencepiece too. Matrices keep their
type (bf16, f16 or f32) and so their exact values; one tensor is in memory at a time.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from gateway.models import safetensors, vocabulary
from gateway.models.errors import ConversionError
from gateway.models.gemma import Settings, read_settings
from gateway.models.safetensors import Tensor
from gateway.models.vocabulary import Vocabulary

__all__ = ["ConversionError", "convert"]

_TEXT_PREFIX: Final = re.compile(r"^(?:model\.)?language_model\.(?:model\.)?|^model\.")
_LAYER: Final = re.compile(r"^layers\.(\d+)\.(.+)\.weight$")
_OUTER: Final = {
    "embed_tokens.weight": "token_embd.weight",
    "norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_TYPES: Final = {
    "BF16": gguf.GGMLQuantizationType.BF16,
    "F16": gguf.GGMLQuantizationType.F16,
    "F32": gguf.GGMLQuantizationType.F32,
}
_FILE_TYPES: Final = {
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "F32": gguf.LlamaFileType.ALL_F32,
}


def convert(folder: Path, target: Path, *, progress: Callable[[float], None] | None = None) -> None:
    """Write the model in `folder` to the GGUF file `target`, whole or not at all.

    `progress` is called with the share done, from 0 to 1. Raises ConversionError, with a sentence
    that helps, for a folder that is not a complete Gemma 3 text model.
    """
    settings = read_settings(folder)
    weights = _named(safetensors.tensors(folder), settings)
    words = vocabulary.read(folder, weights["token_embd.weight"].shape[0])
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _write(partial, settings, words, weights, progress)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _new_name(name: str) -> str | None:
    """Return a tensor's name in GGUF, or nothing for one that is not part of the text model."""
    inner = _TEXT_PREFIX.sub("", name)
    if inner in _OUTER:
        return _OUTER[inner]
    found = _LAYER.match(inner)
    if found and found[2] in _INNER:
        return f"blk.{found[1]}.{_INNER[found[2]]}.weight"
    if inner.startswith(("vision_tower.", "multi_modal_projector.", "vision_model.")):
        return None
    raise ConversionError(f"Tensor {name} is not known from Gemma 3; is this a fine-tune with adapters?")


def _named(found: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Return the text model's tensors under their new names, in a fixed order, none missing."""
    named = {new: tensor for name, tensor in found.items() if (new := _new_name(name))}
    if settings.tied:
        named.pop("output.weight", None)
    wanted = ["token_embd.weight", "output_norm.weight", *(() if settings.tied else ("output.weight",))]
    for layer in range(settings.layers):
        wanted += [f"blk.{layer}.{inner}.weight" for inner in _INNER.values()]
    missing = [name for name in wanted if name not in named]
    if missing:
        raise ConversionError(f"The weights are not complete: {missing[0]} and {len(missing) - 1} more are missing.")
    return {name: named[name] for name in wanted}


def _write(
    path: Path,
    settings: Settings,
    words: Vocabulary,
    weights: dict[str, Tensor],
    progress: Callable[[float], None] | None,
) -> None:
    writer = gguf.GGUFWriter(path, "gemma3")
    try:
        _add_settings(writer, settings, weights["token_embd.weight"].dtype)
        _add_vocabulary(writer, words)
        _add_weights(writer, weights, progress)
    finally:
        writer.close()


def _add_settings(writer: gguf.GGUFWriter, settings: Settings, dtype: str) -> None:
    writer.add_name(settings.name)
    writer.add_file_type(int(_FILE_TYPES[dtype]))
    writer.add_context_length(settings.context)
    writer.add_embedding_length(settings.hidden)
    writer.add_block_count(settings.layers)
    writer.add_feed_forward_length(settings.inner)
    writer.add_head_count(settings.heads)
    writer.add_head_count_kv(settings.kv_heads)
    writer.add_key_length(settings.head_size)
    writer.add_value_length(settings.head_size)
    writer.add_layer_norm_rms_eps(settings.epsilon)
    writer.add_rope_freq_base(settings.global_base)
    writer.add_rope_freq_base_swa(settings.local_base)
    writer.add_sliding_window(settings.window)
    if settings.scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(settings.scaling)
    if settings.softcap is not None:
        writer.add_final_logit_softcapping(settings.softcap)


def _add_vocabulary(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.scores:
        writer.add_token_scores(words.scores)
    if words.merges:
        writer.add_token_merges(words.merges)
    add: dict[str, Callable[[int], None]] = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
        "eot": writer.add_eot_token_id,
    }
    for role, number in words.special.items():
        add[role](number)
    writer.add_add_bos_token(words.add_bos)
    writer.add_add_eos_token(value=False)
    # Gemma's SentencePiece model puts no space before a text's first word.
    writer.add_add_space_prefix(value=False)
    if words.chat_template is not None:
        writer.add_chat_template(words.chat_template)


def _is_norm(name: str) -> bool:
    return name.endswith("norm.weight")


def _data(name: str, tensor: Tensor) -> NDArray[Any]:
    """Return what the file keeps of a tensor: its own bytes, or for a norm the factor itself."""
    if _is_norm(name):
        # Gemma stores a norm's factor less one; llama.cpp multiplies by what it finds.
        return tensor.floats() + np.float32(1)
    return tensor.raw()


def _add_weights(writer: gguf.GGUFWriter, weights: dict[str, Tensor], progress: Callable[[float], None] | None) -> None:
    for name, tensor in weights.items():
        norm = _is_norm(name)
        kind = _TYPES["F32"] if norm else _TYPES[tensor.dtype]
        size = tensor.floats().nbytes if norm else tensor.size
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    whole = sum(tensor.size for tensor in weights.values())
    done = 0
    for name, tensor in weights.items():
        writer.write_tensor_data(_data(name, tensor))
        done += tensor.size
        if progress is not None:
            progress(done / whole)


def _show(share: float) -> None:
    sys.stderr.write(f"\r{share:4.0%}" + ("\n" if share == 1 else ""))


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    convert(options.folder, options.target, progress=_show)


if __name__ == "__main__":
    main()

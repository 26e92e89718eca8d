"""A sentence-transformers folder of BERT's kind comes in, the GGUF file that llama.cpp embeds with goes out.

The tokenizer is WordPiece, and a text's vector is the mean of its tokens' vectors. Matrices keep their 32-bit floats.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from gateway.models.safetensors import read_object

ARCHITECTURE: Final = "BertModel"
MEAN: Final = "pooling_mode_mean_tokens"
NORMALIZE: Final = "sentence_transformers.models.Normalize"
WORD_START: Final = "\u2581"
"""llama.cpp marks where a word begins; WordPiece marks (`##`) where one goes on."""

_OUTER: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_INNER: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_UNUSED: Final = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
_ROLES: Final = {"bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]"}
_CONTROL: Final = {*_ROLES.values(), "[MASK]"}


class NotConvertible(ValueError):
    """The folder holds a model of another kind."""


def convert(folder: Path, target: Path) -> None:
    """Write `target`. Raises `NotConvertible` for a model whose vectors llama.cpp would compute otherwise."""
    settings = read_object(folder / "config.json")
    expect_known(folder, settings)
    words = (folder / "vocab.txt").read_text("utf-8").splitlines()
    partial = target.with_suffix(".part")
    writer = gguf.GGUFWriter(partial, "bert")
    try:
        add_settings(writer, settings)
        add_vocabulary(writer, words)
        for name, values in tensors(folder, settings["num_hidden_layers"]).items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    partial.replace(target)


def expect_known(folder: Path, settings: dict[str, Any]) -> None:
    """Raise `NotConvertible` unless this is what a GGUF can say: BERT, the mean of all tokens, length one."""
    pooling = read_object(folder / "1_Pooling" / "config.json")
    if settings["architectures"] != [ARCHITECTURE] or settings["hidden_act"] != "gelu":
        raise NotConvertible(f"{folder} holds {settings['architectures']} with {settings['hidden_act']}, not BERT")
    if [name for name, on in pooling.items() if on is True] != [MEAN]:
        raise NotConvertible(f"{folder} makes a text's vector otherwise than as the mean of its tokens' vectors")
    if NORMALIZE not in (folder / "modules.json").read_text("utf-8"):
        raise NotConvertible(f"{folder} does not bring vectors to length one, and llama.cpp does")


def add_settings(writer: gguf.GGUFWriter, settings: dict[str, Any]) -> None:
    """Sizes and constants."""
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_layer_norm_eps(settings["layer_norm_eps"])
    writer.add_causal_attention(value=False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(settings["type_vocab_size"])


def add_vocabulary(writer: gguf.GGUFWriter, words: list[str]) -> None:
    """WordPiece's vocabulary, as llama.cpp writes it."""
    kinds = [gguf.TokenType.CONTROL if word in _CONTROL else gguf.TokenType.NORMAL for word in words]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([marked(word) for word in words])
    writer.add_token_types(kinds)
    add: dict[str, Callable[[int], None]] = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "unk": writer.add_unk_token_id,
        "sep": writer.add_sep_token_id,
        "pad": writer.add_pad_token_id,
    }
    for role, word in _ROLES.items():
        add[role](words.index(word))


def marked(word: str) -> str:
    """A word of WordPiece with llama.cpp's mark. Reserved ones in brackets have none."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word.removeprefix("##") if word.startswith("##") else WORD_START + word


def tensors(folder: Path, layers: int) -> dict[str, NDArray[np.float32]]:
    """The weights under llama.cpp's names. Raises `NotConvertible` when some are missing or unknown."""
    found = safetensors.numpy.load_file(folder / "model.safetensors")
    for name in _UNUSED:
        found.pop(name, None)
    outer = dict(_OUTER)
    for layer in range(layers):
        outer |= {f"encoder.layer.{layer}.{old}": f"blk.{layer}.{new}" for old, new in _INNER.items()}
    named: dict[str, NDArray[np.float32]] = {}
    for name, values in found.items():
        stem, _, kind = name.rpartition(".")
        if stem not in outer:
            raise NotConvertible(f"Tensor {name} is not known from BERT")
        named[f"{outer[stem]}.{kind}"] = values.astype(np.float32)
    if missing := {f"{new}.weight" for new in outer.values()} - named.keys():
        raise NotConvertible(f"The weights are not complete: {sorted(missing)}")
    return dict(sorted(named.items()))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))

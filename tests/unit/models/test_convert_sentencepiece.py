"""Conversion of a Gemma with Google's kind of tokenizer, made small and with random weights."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")
sentencepiece = pytest.importorskip("sentencepiece")

from gateway.models.convert import ConversionError, convert  # noqa: E402 - after the skips for a slim installation

_HIDDEN, _INNER, _LAYERS, _HEAD, _ROWS = 32, 48, 6, 16, 450


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens": (_ROWS, _HIDDEN), "norm": (_HIDDEN,)}
    for layer in range(_LAYERS):
        start = f"layers.{layer}"
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            shapes[f"{start}.{norm}_layernorm"] = (_HIDDEN,)
        shapes[f"{start}.self_attn.q_proj"] = (2 * _HEAD, _HIDDEN)
        shapes[f"{start}.self_attn.k_proj"] = (_HEAD, _HIDDEN)
        shapes[f"{start}.self_attn.v_proj"] = (_HEAD, _HIDDEN)
        shapes[f"{start}.self_attn.o_proj"] = (_HIDDEN, 2 * _HEAD)
        shapes[f"{start}.self_attn.q_norm"] = shapes[f"{start}.self_attn.k_norm"] = (_HEAD,)
        shapes[f"{start}.mlp.gate_proj"] = shapes[f"{start}.mlp.up_proj"] = (_INNER, _HIDDEN)
        shapes[f"{start}.mlp.down_proj"] = (_HIDDEN, _INNER)
    return shapes


def _write_weights(path: Path, prefix: str) -> None:
    table: dict[str, Any] = {}
    data = io.BytesIO()
    generator = np.random.default_rng(0)
    for name, shape in _shapes().items():
        start = data.tell()
        data.write((generator.standard_normal(shape) * 0.02).astype("<f2").tobytes())
        entry = {"dtype": "F16", "shape": shape, "data_offsets": [start, data.tell()]}
        table[f"{prefix}{name}.weight"] = entry
    header = json.dumps(table).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data.getvalue())


def _write_tokenizer(folder: Path) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choice("abcdeinorst") for _ in range(rng.randint(2, 6))) for _ in range(300)]
    lines = (" ".join(rng.choice(words) for _ in range(8)) for _ in range(400))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, model_type="bpe", vocab_size=400, byte_fallback=True,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>", "\n", "▁▁"], add_dummy_prefix=False,
        remove_extra_whitespaces=False, normalization_rule_name="identity", minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    special = dict.fromkeys(("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"), True)
    added = {
        str(pieces.piece_to_id(token)): {"content": token, "special": kind}
        for token, kind in (special | {"\n": False, "▁▁": False}).items()
    }
    settings = {"added_tokens_decoder": added, "bos_token": "<bos>", "eos_token": {"content": "<eos>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A multimodal Gemma 3's folder, of which the text model is to be converted."""
    made = tmp_path / "gemma"
    made.mkdir()
    text = {
        "hidden_size": _HIDDEN, "intermediate_size": _INNER, "num_hidden_layers": _LAYERS, "head_dim": _HEAD,
        "num_attention_heads": 2, "num_key_value_heads": 1, "query_pre_attn_scalar": _HEAD, "sliding_window": 64,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }  # fmt: skip
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    (made / "config.json").write_text(json.dumps(config))
    _write_weights(made / "model.safetensors", "language_model.model.")
    _write_tokenizer(made)
    return made


def _values(reader: Any, key: str) -> list[Any]:
    return list(reader.fields[key].contents())


def test_tokens_keep_their_kinds(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "a.gguf")
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    tokens = _values(reader, "tokenizer.ggml.tokens")
    types = dict(zip(tokens, _values(reader, "tokenizer.ggml.token_type"), strict=True))
    assert len(tokens) == _ROWS
    assert types["<unk>"] == 2
    assert types["<bos>"] == types["<start_of_turn>"] == types["<end_of_turn>"] == 3
    assert types["\n"] == types["  "] == 4
    assert types["<0x41>"] == 6
    assert types[f"[PAD{_ROWS - 1}]"] == 5


def test_settings_come_from_the_text_part(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "b.gguf")
    reader = gguf.GGUFReader(tmp_path / "b.gguf")
    assert reader.fields["gemma3.rope.scaling.factor"].contents() == 8.0
    assert reader.fields["gemma3.rope.freq_base"].contents() == 1_000_000.0
    assert reader.fields["gemma3.attention.sliding_window"].contents() == 64
    assert reader.fields["tokenizer.ggml.model"].contents() == "llama"
    assert {tensor.name for tensor in reader.tensors} >= {"blk.5.attn_q.weight", "token_embd.weight"}


def test_byte_pairs_that_are_not_byte_level_ask_for_the_model_file(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.model").unlink()
    content = {"model": {"type": "BPE", "byte_fallback": True}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ConversionError, match=r"tokenizer\.model"):
        convert(folder, tmp_path / "c.gguf")

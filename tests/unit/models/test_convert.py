"""Conversion to GGUF: the bundled folder byte for byte, and sentences for folders that cannot be."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
gguf = pytest.importorskip("gguf")

from gateway.models import bundled  # noqa: E402 - after the skips for a slim installation
from gateway.models.convert import ConversionError, convert  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled Hugging Face folder, to be spoilt."""
    return Path(shutil.copytree(bundled.HF, tmp_path / "model"))


def _change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _text(reader: Any, key: str) -> str:
    return bytes(reader.fields[key].parts[-1]).decode()


def _texts(reader: Any, key: str) -> list[str]:
    found = reader.fields[key]
    return [bytes(found.parts[index]).decode() for index in found.data]


def test_conversion_reproduces_the_shipped_gguf(tmp_path: Path) -> None:
    shares: list[float] = []
    convert(bundled.HF, tmp_path / "a.gguf", progress=shares.append)
    assert (tmp_path / "a.gguf").read_bytes() == bundled.GGUF.read_bytes()
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_vocabulary_equals_the_tokenizers() -> None:
    tokenizer = json.loads((bundled.HF / "tokenizer.json").read_text(encoding="utf-8"))
    reader = gguf.GGUFReader(bundled.GGUF)
    tokens = _texts(reader, "tokenizer.ggml.tokens")
    expected = tokenizer["model"]["vocab"] | {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    assert {token: number for number, token in enumerate(tokens)} == expected
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    assert _texts(reader, "tokenizer.ggml.merges") == merges
    assert _text(reader, "tokenizer.chat_template") == (bundled.HF / "chat_template.jinja").read_text()


def test_turn_marks_are_control_tokens() -> None:
    reader = gguf.GGUFReader(bundled.GGUF)
    tokens = _texts(reader, "tokenizer.ggml.tokens")
    found = reader.fields["tokenizer.ggml.token_type"]
    types = [int(found.parts[index][0]) for index in found.data]
    control = {token for token, kind in zip(tokens, types, strict=True) if kind == 3}
    assert {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"} <= control
    end = int(reader.fields["tokenizer.ggml.eot_token_id"].parts[-1][0])
    assert tokens[end] == "<end_of_turn>"


def test_norms_are_factors_and_matrices_keep_their_bits() -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(bundled.GGUF).tensors}
    raw = (bundled.HF / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def part(name: str) -> bytes:
        first, last = table[name]["data_offsets"]
        return data[first:last]

    norm = np.frombuffer(part("model.norm.weight"), "<u2").astype("<u4") << 16
    assert np.array_equal(tensors["output_norm.weight"].data, norm.view("<f4") + np.float32(1))
    query = tensors["blk.0.attn_q.weight"]
    assert query.data.tobytes() == part("model.layers.0.self_attn.q_proj.weight")
    assert [int(size) for size in query.shape] == table["model.layers.0.self_attn.q_proj.weight"]["shape"][::-1]


def test_shards_give_the_same_file(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    convert(folder, tmp_path / "b.gguf")
    written = gguf.GGUFReader(tmp_path / "b.gguf")
    shipped = gguf.GGUFReader(bundled.GGUF)
    for one, other in zip(written.tensors, shipped.tensors, strict=True):
        assert one.name == other.name
        assert one.data.tobytes() == other.data.tobytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM.*only Gemma 3"),
        ({"architectures": None}, "without an architecture"),
        ({"query_pre_attn_scalar": 100}, "query_pre_attn_scalar"),
        ({"layer_types": ["full_attention"] * 4}, "every sixth"),
        ({"hidden_activation": "silu"}, "silu"),
        ({"num_hidden_layers": 5, "layer_types": ["sliding_attention"] * 5}, "not complete"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_unfit_config_is_refused_in_a_sentence(
    folder: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    _change(folder, **changes)
    with pytest.raises(ConversionError, match=words):
        convert(folder, tmp_path / "c.gguf")
    assert not list(tmp_path.glob("*.gguf*"))
    assert not list(tmp_path.glob(".*part"))


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConversionError, match=r"tokenizer\.json"):
        convert(folder, tmp_path / "d.gguf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConversionError, match=r"model\.safetensors is missing"):
        convert(folder, tmp_path / "d.gguf")
    with pytest.raises(ConversionError, match="not a folder"):
        convert(folder / "nowhere", tmp_path / "d.gguf")


def test_cut_off_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConversionError, match="cut off"):
        convert(folder, tmp_path / "e.gguf")


def test_unknown_splitting_of_text_is_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["pre_tokenizer"] = {"type": "Metaspace"}
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ConversionError, match=r"tokenizer\.model"):
        convert(folder, tmp_path / "f.gguf")

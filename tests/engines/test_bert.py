"""The GGUF of a sentence model: what it cannot say is refused."""

import json
import shutil
from pathlib import Path

import pytest

from tests.engines import bert, minilm_install

CHANGES = {
    "another network": ("config.json", {"architectures": ["RobertaModel"]}),
    "another activation": ("config.json", {"hidden_act": "relu"}),
    "the first token's vector": ("1_Pooling/config.json", {"pooling_mode_cls_token": True}),
}


@pytest.mark.engines
@pytest.mark.parametrize(("name", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_another_model_is_refused(sentence_file: Path, tmp_path: Path, name: str, change: dict[str, object]) -> None:
    """llama.cpp would compute its vectors otherwise."""
    del sentence_file
    folder = tmp_path / "model"
    shutil.copytree(minilm_install.FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(settings | change))
    with pytest.raises(bert.NotConvertible):
        bert.convert(folder, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("*.gguf"))

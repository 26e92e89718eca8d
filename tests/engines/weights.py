"""Another model of the same shape and size: its answers differ, nothing that is listed of it does."""

import shutil
import time
from pathlib import Path

import numpy as np

from gateway.models import safetensors
from gateway.models.convert import convert

_TURNED = "model.layers.2.self_attn.o_proj.weight"


def other_folder(folder: Path, target: Path) -> Path:
    """A copy of a model folder with one tensor's signs turned round."""
    shutil.copytree(folder, target)
    tensor = safetensors.tensors(target)[_TURNED]
    raw = np.memmap(tensor.path, np.uint8, "r+", tensor.start, (tensor.size,))
    raw[1::2] ^= 0x80  # the sign of a little-endian bfloat16
    raw.flush()
    return target


def other_file(folder: Path, target: Path) -> Path:
    """The same as GGUF."""
    convert(other_folder(folder, target.with_suffix("")), target)
    return target


def wait_until_old(file: Path, age_s: float = 1.5) -> None:
    """Return once the file was last changed so long ago that a server started now has surely read it as it is."""
    while (left_s := file.lstat().st_ctime + age_s - time.time()) > 0:
        time.sleep(left_s)

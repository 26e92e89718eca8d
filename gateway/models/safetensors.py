"""Read tensors of a Hugging Face folder one at a time, without holding a whole file in memory."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from gateway.models.errors import ConversionError

_SIZES: Final = {"BF16": 2, "F16": 2, "F32": 4}
_LONGEST_HEADER: Final = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one tensor lies: its file, its first byte there, its type and its shape."""

    name: str
    path: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of bytes the tensor takes."""
        return math.prod(self.shape) * _SIZES[self.dtype]

    def raw(self) -> NDArray[np.uint8]:
        """Return the tensor's bytes, mapped from the file."""
        return np.memmap(self.path, np.uint8, "r", self.start, (self.size,))

    def floats(self) -> NDArray[np.float32]:
        """Return the tensor's values as 32-bit floats, exactly."""
        raw = self.raw()
        if self.dtype == "BF16":
            # bfloat16 is the upper half of a 32-bit float, a type that NumPy does not have.
            wide = raw.view("<u2").astype(np.uint32) << np.uint32(16)
            return wide.view(np.float32).reshape(self.shape)
        kind = "<f2" if self.dtype == "F16" else "<f4"
        return raw.view(kind).astype(np.float32).reshape(self.shape)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or raise ConversionError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConversionError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ConversionError(f"{path} does not hold a JSON object.")
    return cast("dict[str, Any]", found)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a safetensors file's table of contents and where its data begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= _LONGEST_HEADER:
            raise ConversionError(f"{path.name} is not a safetensors file.")
        try:
            table = json.loads(file.read(length))
        except ValueError as error:
            raise ConversionError(f"{path.name} is cut off or not a safetensors file.") from error
    return cast("dict[str, Any]", table), 8 + length


def _tensors_of(path: Path) -> Iterator[Tensor]:
    table, data = _header(path)
    end = path.stat().st_size
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _SIZES:
            raise ConversionError(f"Tensor {name} has type {entry['dtype']}; only BF16, F16 and F32 can be converted.")
        first, last = entry["data_offsets"]
        tensor = Tensor(name, path, data + first, entry["dtype"], tuple(entry["shape"]))
        if tensor.size != last - first or data + last > end:
            raise ConversionError(f"{path.name} is cut off: tensor {name} is not complete.")
        yield tensor


def tensors(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a folder by name, from one file or from shards."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = sorted(set(read_object(index).get("weight_map", {}).values()))
        paths = [folder / str(shard) for shard in shards]
    else:
        paths = [folder / "model.safetensors"]
    for path in paths:
        if path.parent != folder or not path.is_file():
            raise ConversionError(f"{folder} holds no weights: {path.name} is missing.")
    return {tensor.name: tensor for path in paths for tensor in _tensors_of(path)}

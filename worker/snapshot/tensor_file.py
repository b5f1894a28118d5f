"""A safetensors file as parts that need no copy: a header, then the tensors' own memory.

`safetensors.torch.save` holds the interpreter for as long as it copies everything together,
twice; a training that goes on meanwhile would stand still. The bytes are the same.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save

from worker.snapshot.digest import tensor_bytes
from worker.snapshot.state import Tensors

# In the order in which safetensors lays them out.
_TYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_PLACE = {kind: place for place, kind in enumerate(_TYPES)}
_ALIGNMENT = 8


def tensor_file(tensors: Tensors) -> list[bytes | memoryview]:
    """Return the parts of a safetensors file; joined they equal what `save` returns.

    The parts are views of the tensors, which must not change until they are written.
    """
    if not all(tensor.dtype in _TYPES for tensor in tensors.values()):
        return [save({name: tensor.contiguous() for name, tensor in tensors.items()})]
    header: dict[str, object] = {}
    parts: list[bytes | memoryview] = []
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (_PLACE[item[1].dtype], item[0])):
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        if end > offset:
            parts.append(tensor_bytes(tensor))
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return [len(text).to_bytes(8, "little") + text, *parts]

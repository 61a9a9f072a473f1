"""Safetensors files as NumPy arrays: 8 bytes with the length of a JSON header, the header, the data."""

import json
import os

import numpy as np

TYPES = {"F32": np.float32, "F64": np.float64, "U32": np.uint32, "U64": np.uint64}


def read(*path):
    """All tensors of a file by name."""
    with open(os.path.join(*path), "rb") as file:
        content = file.read()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        data = np.frombuffer(content[start + begin : start + end], TYPES[about["dtype"]])
        tensors[name] = data.reshape(about["shape"])
    return tensors

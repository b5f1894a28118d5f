"""The random generators of this process as tensors and plain numbers: nothing to unpickle."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from worker.snapshot.state import SnapshotMismatch, Tensors

_SHAPES = {"python": (625,), "numpy": (624,)}
_MAX_WORD = 2**32


def capture_rng(device: torch.device | str = "cpu") -> tuple[Tensors, dict[str, Any]]:
    """Return the states of python's, numpy's, torch's and the device's global generators.

    Tensors: `python` int64 (625,), `numpy` int64 (624,), `torch` uint8, and `device` uint8 on
    an accelerator. The second part holds what is not an array: versions and cached gaussians.
    """
    device = torch.device(device)
    version, words, gauss_next = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "torch": torch.get_rng_state().clone(),
    }
    if device.type != "cpu":
        tensors["device"] = torch.get_device_module(device).get_rng_state(device)
    plain = {
        "python": {"version": version, "gauss_next": gauss_next},
        "numpy": {
            "kind": str(kind),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "device": device.type,
    }
    return tensors, plain


def check_rng(tensors: Tensors, plain: dict[str, Any], device: torch.device | str = "cpu") -> None:
    """Raise `SnapshotMismatch` unless `restore_rng` can succeed; changes nothing."""
    device = torch.device(device)
    if plain.get("device") != device.type:
        raise SnapshotMismatch(f"rng: taken on {plain.get('device')}, this device is {device.type}")
    expected = {"python", "numpy", "torch"} | ({"device"} if device.type != "cpu" else set())
    if set(tensors) != expected:
        raise SnapshotMismatch(f"rng: has {sorted(tensors)}, needs {sorted(expected)}")
    for name, shape in _SHAPES.items():
        tensor = tensors[name]
        if tensor.dtype != torch.int64 or tuple(tensor.shape) != shape:
            raise SnapshotMismatch(
                f"rng: {name} is {tensor.dtype} {tuple(tensor.shape)}, needs int64 {shape}"
            )
        if int(tensor.min()) < 0 or int(tensor.max()) >= _MAX_WORD:
            raise SnapshotMismatch(f"rng: {name} has words outside 32 bits")
    live = {"torch": torch.get_rng_state()}
    if "device" in expected:
        live["device"] = torch.get_device_module(device).get_rng_state(device)
    for name, state in live.items():
        if tensors[name].dtype != torch.uint8 or tensors[name].shape != state.shape:
            raise SnapshotMismatch(f"rng: {name} is not a generator state of this torch version")
    _on_trial(tensors, plain)


def restore_rng(
    tensors: Tensors, plain: dict[str, Any], device: torch.device | str = "cpu"
) -> None:
    """Put all generators back. Raises `SnapshotMismatch` before anything is changed."""
    device = torch.device(device)
    check_rng(tensors, plain, device)
    random.setstate(_python_state(tensors, plain))
    np.random.set_state(_numpy_state(tensors, plain))
    torch.set_rng_state(tensors["torch"].clone())
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(tensors["device"].clone(), device)


def _on_trial(tensors: Tensors, plain: dict[str, Any]) -> None:
    """Let private generators take the states, so that the global ones cannot refuse them."""
    trials: dict[str, Callable[[], object]] = {
        "python": lambda: random.Random().setstate(_python_state(tensors, plain)),  # noqa: S311
        "numpy": lambda: np.random.RandomState().set_state(_numpy_state(tensors, plain)),
        "torch": lambda: torch.Generator().set_state(tensors["torch"].clone()),
    }
    for name, trial in trials.items():
        try:
            trial()
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SnapshotMismatch(
                f"rng: {name}'s generator refuses the saved state: {type(error).__name__}: {error}"
            ) from error


def _python_state(tensors: Tensors, plain: dict[str, Any]) -> tuple[Any, ...]:
    python = plain["python"]
    return (python["version"], tuple(tensors["python"].tolist()), python["gauss_next"])


def _numpy_state(tensors: Tensors, plain: dict[str, Any]) -> tuple[Any, ...]:
    legacy = plain["numpy"]
    keys = tensors["numpy"].numpy().astype(np.uint32)
    return (legacy["kind"], keys, legacy["position"], legacy["has_gauss"], legacy["cached"])

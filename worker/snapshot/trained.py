"""The full trained tensors: kept aside as the best so far, lent to the module to be tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from worker.snapshot.digest import tensors_digest
from worker.snapshot.gather import gathered, whole
from worker.snapshot.state import SnapshotMismatch, Tensors

if TYPE_CHECKING:
    from worker.engine import Engine


def full_trained(engine: Engine) -> Tensors:
    """Return CPU copies of all full trained tensors by name, on every rank.

    Collective under ZeRO-3. `digest.mapping_digest` of it equals `digest.weights_digest`.
    """
    return {
        name: tensor.to("cpu", copy=True).contiguous()
        for name, tensor in gathered(engine.trained_parameters())
    }


def load_trained(engine: Engine, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write full trained tensors into the module; optimizer and masters stay as they are.

    For evaluation only: the next step would overwrite them from the masters, so the engine
    refuses to be captured from here on. `evaluation_weights` gives the state back by itself.
    Collective under ZeRO-3; every rank passes the same tensors. Raises `SnapshotMismatch`
    before anything is changed.
    """
    parameters = engine.trained_parameters()
    _check(parameters, tensors)
    engine.weights_borrowed = True
    _write(parameters, tensors)


@contextmanager
def evaluation_weights(engine: Engine, tensors: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Lend `tensors` to the module inside the context; yield their digest.

    The trained state is back afterwards, bit for bit, whatever happened inside.
    """
    own = full_trained(engine)
    load_trained(engine, tensors)
    try:
        yield tensors_digest(gathered(engine.trained_parameters()))
    finally:
        _write(engine.trained_parameters(), own)
        engine.weights_borrowed = False


def _shape(parameter: torch.nn.Parameter) -> torch.Size:
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def _check(
    parameters: list[tuple[str, torch.nn.Parameter]], tensors: Mapping[str, torch.Tensor]
) -> None:
    names = {name for name, _ in parameters}
    if names != set(tensors):
        odd = sorted(names ^ set(tensors))[0]
        verb = "lacks" if odd in names else "has the unknown"
        raise SnapshotMismatch(f"trained tensors: the set {verb} {odd}")
    for name, parameter in parameters:
        mine, theirs = (
            (parameter.dtype, _shape(parameter)),
            (
                tensors[name].dtype,
                tensors[name].shape,
            ),
        )
        if mine != theirs:
            raise SnapshotMismatch(
                f"trained tensors: {name} is {theirs[0]} {tuple(theirs[1])},"
                f" the module needs {mine[0]} {tuple(mine[1])}"
            )


def _write(
    parameters: list[tuple[str, torch.nn.Parameter]], tensors: Mapping[str, torch.Tensor]
) -> None:
    with torch.no_grad():
        for name, parameter in parameters:
            with whole(parameter, modifier_rank=0):
                parameter.data.copy_(tensors[name])

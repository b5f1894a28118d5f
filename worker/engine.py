"""The DeepSpeed engine: built from a spec, driven by micro-steps, silent.

The caller has set `torch.set_num_threads`, seeded everything and initialised
`torch.distributed`; the model lies on its device with `requires_grad` saying what is trained.

    engine = build_engine(model, semantic, overrides, device=device)
    for step in range(engine.steps_done, semantic.train.steps):
        engine.set_lr(lr_at(semantic.train, step))
        for batch in micro_batches:            # engine.accumulation of them
            loss = engine.micro_step(batch)
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from jobs.contract.records import Overrides
from jobs.geometry import BatchGeometry, batch_geometry
from jobs.spec import Semantic
from worker.engine_config import PERSISTENCE_THRESHOLD, engine_config
from worker.snapshot.buffers import buffer_digests

LOSS_WEIGHT = "loss_weight"  # of a micro-batch, where the model itself does not weigh it
LOSS_SHARE = "loss_share"  # what a criterion's sum over a micro-batch is divided by
# logits and labels of a micro-batch -> the sum of its labels' losses
Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Engine:
    """A DeepSpeed engine with the few verbs that the training loop needs."""

    def __init__(
        self,
        deepspeed_engine: Any,
        *,
        semantic: Semantic,
        geometry: BatchGeometry,
        device: torch.device,
    ) -> None:
        self.deepspeed = deepspeed_engine
        self.device = device
        self.rank: int = dist.get_rank()
        self.world_size: int = dist.get_world_size()
        self.zero_stage = semantic.engine.zero_stage
        self.precision = semantic.engine.precision
        self.geometry = geometry
        # True while other weights than the trained state are in the module (`snapshot.trained`).
        self.weights_borrowed = False
        self.initial_buffers: Mapping[str, str] = {}  # digests; set by `build_engine`
        self.criterion: Criterion | None = None  # instead of the model's own loss

    @property
    def module(self) -> torch.nn.Module:
        """The user's model. Under ZeRO-3 every rank must call it equally often."""
        module: torch.nn.Module = self.deepspeed.module
        return module

    @property
    def accumulation(self) -> int:
        """Micro-steps per step."""
        return self.geometry.accumulation

    @property
    def steps_done(self) -> int:
        """Completed optimizer steps."""
        return int(self.deepspeed.global_steps)

    @property
    def step_boundary(self) -> bool:
        """Whether no gradient is accumulated: the only place where state may be captured."""
        return int(self.deepspeed.micro_steps) % self.accumulation == 0

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the last step's gradients before clipping; None where unknown."""
        norm = self.deepspeed.get_global_grad_norm()
        return None if norm is None else float(norm)

    def trained_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return `(name, parameter)` of all that is trained, sorted by name.

        Under ZeRO-3 the data of a parameter may be empty; `snapshot.full_trained` gathers.
        """
        named = self.module.named_parameters()
        return sorted((name, p) for name, p in named if p.requires_grad)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the coming step."""
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = lr

    def micro_step(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Forward, backward and, at the end of the accumulation window, the optimizer step.

        `batch`: the model's keyword arguments, each of shape (micro_batch, …), with labels.
        Returns this rank's loss, float32 scalar, detached, on the device: the model's own mean
        over this micro-batch's labelled tokens, before division by the accumulation; times
        `LOSS_WEIGHT` of the batch, a scalar, where it has one.
        """
        self.module.train()
        given = {key: value.to(self.device) for key, value in batch.items()}
        weight, share = given.pop(LOSS_WEIGHT, None), given.pop(LOSS_SHARE, None)
        output = self.deepspeed(**given)
        if share is not None and self.criterion is not None:
            loss = self.criterion(output.logits, given["labels"]) / share
        else:
            loss = output.loss if weight is None else output.loss * weight
        self.deepspeed.backward(loss)
        self.deepspeed.step()
        return loss.detach().float()

    @contextmanager
    def evaluating(self) -> Iterator[torch.nn.Module]:
        """Yield the module in evaluation mode without gradients; afterwards it trains again."""
        if not self.step_boundary:
            raise RuntimeError("evaluation inside an accumulation window")
        self.module.eval()
        try:
            with torch.no_grad():
                yield self.module
        finally:
            self.module.train()


def build_engine(
    model: torch.nn.Module,
    semantic: Semantic,
    overrides: Overrides | None = None,
    *,
    device: torch.device | str = "cpu",
    persistence_threshold: int = PERSISTENCE_THRESHOLD,
) -> Engine:
    """Return the engine that trains `model` as `semantic` says. Collective.

    The process group must be initialised and have as many ranks as the spec, or an override of
    it, says. With bf16 the
    whole model, frozen weights included, is cast: take `snapshot.base_digest` before. Raises
    ValueError when nothing is trained or the group's size differs from the spec's.
    """
    device, overrides = torch.device(device), overrides or Overrides()
    ranks = overrides.ranks or semantic.engine.ranks
    if dist.get_world_size() != ranks:
        raise ValueError(f"{ranks} ranks are wanted, but {dist.get_world_size()} are here")
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError("the method left no parameter to train: check method.targets")
    config = engine_config(
        semantic,
        overrides,
        trained_elements=sum(p.numel() for p in trained),
        overlap=device.type == "cuda",
        persistence_threshold=persistence_threshold,
    )
    raw = _initialize(model, trained, config, device)
    engine = Engine(
        raw, semantic=semantic, geometry=batch_geometry(semantic, overrides), device=device
    )
    _forget_warm_up(raw.optimizer)
    engine.initial_buffers = buffer_digests(engine.module)
    return engine


def _initialize(
    model: torch.nn.Module,
    trained: list[torch.nn.Parameter],
    config: dict[str, Any],
    device: torch.device,
) -> Any:
    # Both are read when DeepSpeed is first imported, respectively when an engine is built.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if device.type == "cuda" else "cpu")
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))
    _silence()
    import deepspeed

    prepare_deepspeed()
    deepspeed.init_distributed(
        dist_backend=dist.get_backend(), auto_mpi_discovery=False, verbose=False
    )
    raw, *_ = deepspeed.initialize(
        model=model, model_parameters=trained, config=config, dist_init_required=False
    )
    return raw


def prepare_deepspeed() -> None:
    """Keep DeepSpeed from compiling what this worker never calls. Idempotent.

    Its process group on CPU would have a shared-memory kernel built, for a minute, by a compiler
    that the node may not have. Its Muon kernels, which every ZeRO stage imports, are decorated
    for torch.compile, which imports inductor and costs each start of a rank three seconds.
    """
    import deepspeed
    from deepspeed.runtime import compiler

    deepspeed.ops.__compatible_ops__ = {}  # filled on first use, by running a compiler
    original = compiler.compile
    compiler.compile = lambda: compiler.dummy_decorator
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        compiler.compile = original


def _silence() -> None:
    """Keep DeepSpeed's and torch.distributed's deprecation floods out of the logs."""
    for module in (r"deepspeed", r"torch\.distributed", r"torch\.autograd"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        warnings.filterwarnings("ignore", category=UserWarning, module=module)


def _forget_warm_up(optimizer: Any) -> None:
    """Undo the step on zero gradients that some of DeepSpeed's optimizers begin with.

    Otherwise Adam's bias correction would start at its second step, and only at stage 0 in bf16.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    for state in inner.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.zero_()

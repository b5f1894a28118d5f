"""The machine under a rank: device, threads, determinism, seeds, and what to record of them."""

from __future__ import annotations

import hashlib
import os
import platform
import random
from importlib import metadata

import numpy as np
import torch

from checkpoints.manifest import Environment

LIBRARIES = ("torch", "deepspeed", "transformers", "peft", "tokenizers", "numpy")


def prepare_machine(*, threads: int, local_rank: int, gpus_per_rank: int) -> torch.device:
    """Make torch deterministic with a fixed number of threads; return this rank's device."""
    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True)
    if gpus_per_rank and torch.cuda.is_available():
        # srun may show each rank only its own device.
        index = local_rank * gpus_per_rank % torch.cuda.device_count()
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    return torch.device("cpu")


def seed_everything(seed: int, rank: int, *, step: int = 0) -> None:
    """Give every global generator of this rank its own explicit seed, another one at each step."""
    place = f" step {step}" if step else ""
    digest = hashlib.sha256(f"orch rank seed {seed} {rank}{place}".encode()).digest()
    words = [int.from_bytes(digest[start : start + 4], "little") for start in (0, 4, 8)]
    random.seed(words[0])
    np.random.seed(words[1])  # libraries draw from the global one
    torch.manual_seed(words[2])


def seed_micro_batch(seed: int, step: int, number: int) -> None:
    """Give the generators the state of a micro-batch: a function of its place in the step.

    `number`: `DataOrder.micro_batch_number`; it counts over all ranks, so that the same examples
    meet the same dropout whichever rank has them.
    """
    digest = hashlib.sha256(f"orch micro-batch {seed} {step} {number}".encode()).digest()
    words = [int.from_bytes(digest[start : start + 4], "little") for start in (0, 4, 8)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def environment(device: torch.device, *, threads: int, packages: str | None = None) -> Environment:
    """Return what must stay the same for a resume to be exact."""
    model = platform.machine()
    if device.type == "cuda":
        model = torch.cuda.get_device_name(device)
    return Environment(
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        device_model=f"{device.type} {model}",
        threads=threads,
        packages=packages,
    )

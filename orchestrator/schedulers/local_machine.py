"""What the embedded scheduler may hand out on this machine, and what a task may see of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_NVIDIA = Path("/proc/driver/nvidia/gpus")
# Names that a training needs from its user's session. Everything else stays out, secrets first.
_PASSED = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "TRANSFORMERS_OFFLINE",
        "TOKENIZERS_PARALLELISM",
        "DS_ACCELERATOR",
    }
)
_PASSED_PREFIXES = ("ORCH_", "CUDA_", "NCCL_", "GLOO_", "TORCH_", "OMP_", "MKL_")
_PASSED_HF = frozenset(
    {"HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_CACHE", "HF_DATASETS_OFFLINE"}
)


def count_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) or os.cpu_count() or 1


def visible_gpus() -> tuple[int, ...]:
    """Return the GPU numbers that may be handed out."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(int(part) for part in chosen.split(",") if part.strip().isdecimal())
    try:
        return tuple(range(sum(1 for _ in _NVIDIA.iterdir())))
    except OSError:
        return ()


def task_environment(
    session: Mapping[str, str], own: Mapping[str, str], gpus: tuple[int, ...] | None
) -> dict[str, str]:
    """Return the environment of a launcher. `gpus` None: this machine hands out none."""
    passed = {
        name: value
        for name, value in session.items()
        if name in _PASSED or name in _PASSED_HF or name.startswith(_PASSED_PREFIXES)
    }
    if gpus is not None:
        passed["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    return {**passed, **own}

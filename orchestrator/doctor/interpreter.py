"""Python and packages, from their metadata: nothing heavy is imported."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from importlib import metadata

from orchestrator.doctor.check import Check, failed, passed

LEAST_PYTHON = (3, 11)
CORE_PACKAGES = ("filelock", "psutil", "pydantic", "pyyaml", "rich", "submitit", "typer")
WORKER_PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
)


def python_check(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    """Return whether the interpreter is new enough."""
    shown = ".".join(map(str, version))
    if version < LEAST_PYTHON:
        return failed("python", f"{shown} at {sys.executable}", "use Python 3.11 or newer")
    return passed("python", f"{shown} at {sys.executable} ({platform.system()})")


def packages_check(
    name: str,
    packages: Sequence[str],
    *,
    fix: str,
    version_of: Callable[[str], str] = metadata.version,
) -> Check:
    """Return the versions of `packages`, or which are missing."""
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {version_of(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        return failed(name, f"missing: {', '.join(missing)}", fix)
    return passed(name, ", ".join(found))


def interpreter_checks() -> list[Check]:
    """Return the checks of Python, of the control plane's and of the workers' packages."""
    return [
        python_check(),
        packages_check("packages", CORE_PACKAGES, fix="pip install orch"),
        packages_check(
            "worker packages",
            WORKER_PACKAGES,
            fix="pip install 'orch[worker]' in the environment that the jobs use",
        ),
    ]

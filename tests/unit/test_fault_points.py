"""Fault points are named once, listed, and reached by nobody's accident."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("durable", "checkpoints", "orchestrator", "worker")


def called_points(package: str) -> set[str]:
    """Return the literal names that a package's modules pass to `hit`."""
    found: set[str] = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else None
            name = node.func.id if isinstance(node.func, ast.Name) else name
            argument = node.args[0]
            if name == "hit" and isinstance(argument, ast.Constant):
                found.add(str(argument.value))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_called_fault_point_is_listed_and_every_listed_one_is_called(package: str) -> None:
    """The crash suites run over the lists, so a point outside them would never be tried."""
    listed = importlib.import_module(f"{package}.fault_points").FAULT_POINTS

    assert called_points(package) == set(listed)
    assert all(meaning.strip() for meaning in listed.values())


def test_fault_point_names_are_unique_across_packages() -> None:
    """ORCH_FAULT names a point without its package."""
    names = [
        name
        for package in PACKAGES
        for name in importlib.import_module(f"{package}.fault_points").FAULT_POINTS
    ]

    assert len(names) == len(set(names))

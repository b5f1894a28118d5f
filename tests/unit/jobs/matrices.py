"""Small valid matrices to vary in tests."""

from __future__ import annotations

from pathlib import Path

from jobs.matrix import Matrix, load_matrix

BASE = """\
version: 1
name: m
defaults:
  model: {family: decoder, config: {n_layer: 1, n_embd: 32, n_head: 4}}
  method: {name: lora, rank: 8, alpha: 16}
  task: {name: tsv, path: "package:quickstart"}
  train: {steps: 60, global_batch: 8, lr: 1e-3}
"""


def write(directory: Path, rest: str = "", *, base: str = BASE) -> Path:
    """Write a matrix below `directory` and return its path."""
    path = directory / "matrix.yaml"
    path.write_text(base + rest)
    return path


def load(
    directory: Path, rest: str = "", *, base: str = BASE, sets: tuple[str, ...] = ()
) -> Matrix:
    """Write and load a matrix."""
    return load_matrix(write(directory, rest, base=base), sets=sets)


def cell_names(matrix: Matrix) -> list[str]:
    """Return the jobs' names without the matrix's."""
    return [job.name.partition("/")[2] for job in matrix.jobs]

"""The command of a job that is any program."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from jobs.specs.base import SpecModel


class CommandSpec(SpecModel):
    """Any program that obeys the contract of docs/command-jobs.md.

    `{name}` in a word of `argv` stands for a param, an input's path or one of
    `jobs.command.GIVEN`; no shell is involved. Paths start beside the matrix file.
    """

    argv: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    params: dict[str, int | float | str | bool] = Field(default={})
    inputs: dict[str, str] = Field(
        default={}
    )  # name -> file or directory that is read where it lies
    code: tuple[str, ...] = ()  # files and directories that are snapshotted at submission
    result: str | None = None  # JSON file of metrics in the working directory; None: see the page
    input_digests: dict[str, str] = Field(
        default={}
    )  # of the inputs' files, filled in at submission

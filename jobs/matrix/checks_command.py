"""What can be known of a command without running it; and its normal form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath

from jobs.command import GIVEN, NAME, BadWord, known_names, placeholders
from jobs.matrix.findings import Finding
from jobs.names import printable
from jobs.snapshot import CodeRefused, code_digest, collect, tree_digest
from jobs.sources import SourceAbsent, SourceMissing, find_input
from jobs.spec import CommandSpec, EngineSpec
from jobs.suggestions import did_you_mean
from jobs.yaml_strict import KeyPath

NAME_RULE = "letters, digits and _, the first no digit"


class CommandFiles:
    """Digests of code and inputs, each read once however many cells name it."""

    def __init__(self, *, base_dir: Path, data_root: Path | None) -> None:
        self._base_dir, self._data_root = base_dir, data_root
        self._inputs: dict[str, str] = {}
        self._code: dict[tuple[str, ...], str] = {}

    def input(self, path: str) -> str:
        """Return the digest of an input. Raises `SourceMissing`, `CodeRefused`, OSError."""
        if path not in self._inputs:
            found = find_input(path, base_dir=self._base_dir, data_root=self._data_root)
            self._inputs[path] = tree_digest(found)
        return self._inputs[path]

    def code(self, names: Sequence[str]) -> str:
        """Return the digest of code. Raises `CodeRefused`, OSError."""
        key = tuple(names)
        if key not in self._code:
            self._code[key] = code_digest(collect(self._base_dir, key))
        return self._code[key]


def check_command(command: CommandSpec, *, files: CommandFiles) -> Iterator[Finding]:
    """Yield what is wrong with the `command` section."""
    yield from _check_names(command)
    yield from _check_words(command)
    for name, value in command.params.items():
        if isinstance(value, float) and not math.isfinite(value):
            path = ("command", "params", name)
            yield Finding(path=path, message=f"{value} is no number", fix="write a finite one")
    if command.result is not None:
        yield from _check_result(command.result)
    for name, value in command.inputs.items():
        yield from _unreadable(("command", "inputs", name), partial(files.input, value), value)
    for index, name in enumerate(command.code):
        yield from _unreadable(("command", "code", index), partial(files.code, [name]))


def _unreadable(
    path: KeyPath, read: Callable[[], object], source: str | None = None
) -> Iterator[Finding]:
    try:
        read()
    except SourceAbsent as error:
        yield Finding(path=path, message=str(error), fix=error.fix, absent=source)
    except (SourceMissing, CodeRefused) as error:
        yield Finding(path=path, message=str(error), fix=error.fix)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}"
        yield Finding(path=path, message=message, fix="make it readable")


def _check_names(command: CommandSpec) -> Iterator[Finding]:
    for section, names in (("params", command.params), ("inputs", command.inputs)):
        for name in names:
            path = ("command", section, name)
            if not NAME.fullmatch(name):
                message = f"{printable(name)} is no name"
                yield Finding(path=path, message=message, fix=f"use {NAME_RULE}", at_key=True)
            elif name in GIVEN:
                message = f"`{name}` is given by orch: {GIVEN[name]}"
                yield Finding(path=path, message=message, fix="rename it", at_key=True)
            elif section == "inputs" and name in command.params:
                message = f"`{name}` is a param too"
                yield Finding(path=path, message=message, fix="rename one of them", at_key=True)


def _check_words(command: CommandSpec) -> Iterator[Finding]:
    known = known_names(command)
    for index, word in enumerate(command.argv):
        path = ("command", "argv", index)
        try:
            unknown = [name for name in placeholders(word) if name not in known]
        except BadWord as error:
            yield Finding(path=path, message=printable(word), fix=str(error))
            continue
        if unknown:
            message = f"{{{unknown[0]}}} is neither a param nor an input"
            fix = f"{did_you_mean(unknown[0], known)} (write {{{{ and }}}} for braces)"
            yield Finding(path=path, message=message, fix=fix)
    if not command.argv[0]:
        yield Finding(path=("command", "argv", 0), message="is empty", fix="name a program")


def _check_result(result: str) -> Iterator[Finding]:
    pure = PurePosixPath(result)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        yield Finding(
            path=("command", "result"),
            message=f"{printable(result)} leaves the working directory",
            fix="write a relative path such as metrics.json",
        )


def check_command_engine(engine: EngineSpec, _: CommandSpec) -> Iterator[Finding]:
    """Yield the keys of `engine` that mean something to trainings only."""
    for name in ("zero_stage", "precision"):
        if getattr(engine, name) != EngineSpec.model_fields[name].default:
            message = f"`{name}` means nothing to a command"
            yield Finding(
                path=("engine", name), message=message, fix="remove it, or make it a param",
                at_key=True,
            )  # fmt: skip


def normal_command(command: CommandSpec, *, files: CommandFiles) -> tuple[CommandSpec, str | None]:
    """Return a checked command in normal form, and the digest of its code.

    Raises `CodeRefused`, OSError.
    """
    digests = {}
    for name, path in sorted(command.inputs.items()):
        with suppress(SourceAbsent):  # only where a plan alone is wanted
            digests[name] = files.input(path)
    code = tuple(sorted({PurePosixPath(name).as_posix() for name in command.code}))
    digest = files.code(code) if code else None
    return command.model_copy(update={"input_digests": digests, "code": code}), digest

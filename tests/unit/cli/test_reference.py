"""The reference is complete and true: verbs, options, YAML keys with their defaults, exit codes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import yaml
from pydantic import BaseModel

from jobs.contract.exit_codes import ExitCode
from jobs.matrix import MAX_CELLS, blocks, outline
from jobs.spec import (
    CommandSpec,
    EngineSpec,
    MethodSpec,
    ModelSpec,
    Run,
    TaskSpec,
    TrainSpec,
)
from orchestrator.cli.app import VERBS, verb_named
from orchestrator.cli.exits import MEANINGS, Exit

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
ROW = re.compile(r"^\| `([a-z_.]+)` \| ([^|]*) \| ", re.MULTILINE)
FILLED_IN_BY_ORCH = {"content_digest", "code_digest", "input_digests", "base_dir"}


def page(name: str) -> str:
    """Return a page of the reference."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def section(verb: str) -> str:
    """Return what cli.md says of a verb."""
    match = re.search(rf"^## orch {verb}$(.*?)(?=^## |\Z)", page("cli.md"), re.M | re.S)
    assert match, f"cli.md has no section on {verb}"
    return match[1]


def options(verb: str) -> list[str]:
    """Return all spellings of all options of a verb."""
    function = verb_named(verb)
    hints = get_type_hints(function, include_extras=True)
    infos = [
        info
        for name in inspect.signature(function).parameters
        for info in get_args(hints[name])[1:]
        if hasattr(info, "param_decls")
    ]
    # With Annotated, typer keeps the first spelling where a default would stand.
    spellings = [word for info in infos for word in (info.default, *(info.param_decls or ()))]
    return [word for word in spellings if isinstance(word, str) and word.startswith("-")]


@pytest.mark.parametrize("verb", list(VERBS))
def test_each_option_of_each_verb_is_described(verb: str) -> None:
    """An option that the reference does not have does not exist for its readers."""
    text = section(verb)

    assert [spelling for spelling in options(verb) if f"`{spelling}" not in text] == []


def test_the_check_above_sees_options() -> None:
    """Guard against a vacuous test: known spellings must be found."""
    assert {"--backend", "--set", "--json"} <= set(options("submit"))
    assert {"--all", "-a"} <= set(options("status"))


def test_no_section_describes_a_verb_that_does_not_exist() -> None:
    """A verb that was removed must leave the reference too."""
    assert re.findall(r"^## orch (\w+)$", page("cli.md"), re.M) == list(VERBS)


def test_each_exit_code_is_described_in_the_programs_words() -> None:
    """Code and meaning in the table are those of the program."""
    text = page("exit-codes.md").replace("`", "")

    for code in Exit:
        assert re.search(rf"^\| {int(code)} \| [a-z ]+ \| {re.escape(MEANINGS[code])}", text, re.M)
    for worker in ExitCode:
        assert f"| {int(worker)} |" in text.partition("## Workers")[2]


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys of a model's fields with their defaults (`...`: required)."""
    for name, field in model.model_fields.items():
        if name in FILLED_IN_BY_ORCH:
            continue
        kind = field.annotation
        sections = [part for part in get_args(kind) if isinstance(part, type)]
        kind = next((part for part in sections if issubclass(part, BaseModel)), kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ... if field.is_required() else field.default


def all_fields() -> dict[str, Any]:
    """Return every YAML key that the models know, with its default."""
    named = {
        "model": ModelSpec, "task": TaskSpec, "train": TrainSpec, "engine": EngineSpec,
        "rehearsal": outline.Rehearsal, "command": CommandSpec,
    }  # fmt: skip
    found = {key: value for name, kind in named.items() for key, value in fields(kind, f"{name}.")}
    for kind in get_args(get_args(MethodSpec)[0]):
        found |= dict(fields(kind, "method."))
    run = dict(fields(Run, ""))
    run.pop("rehearsal.at_step")  # a matrix writes its own form of it, checked above
    return found | run


@pytest.mark.parametrize(("key", "default"), all_fields().items())
def test_each_yaml_key_is_described_with_its_default(key: str, default: object) -> None:
    """The table's default must be the model's; `required` must be required."""
    rows = dict(ROW.findall(page("matrix.md")))

    assert key in rows
    if default is ...:
        assert rows[key] == "required"
    elif isinstance(default, bool):
        assert rows[key] == str(default).lower()  # as YAML has it
    elif default is not None:
        written = (
            f"[{', '.join(map(str, default))}]" if isinstance(default, tuple) else str(default)
        )
        assert rows[key] == written.strip(" ").replace("\n", "\\n")
    else:
        assert rows[key] not in ("", "required")  # words: what happens without it


def test_no_described_key_is_unknown() -> None:
    """A key that was renamed must leave the reference too."""
    described = {key for key, _ in ROW.findall(page("matrix.md")) if "." in key}

    assert described <= set(all_fields())


def test_the_outermost_keys_and_those_of_blocks_are_described() -> None:
    """The grammar around the fields: what the outline and the blocks know."""
    text = page("matrix.md")
    outermost, _, below = text.partition("## matrix\n")

    assert [key for key in outline.KEYS if f"`{key}`" not in outermost] == []
    assert [key for key in blocks.KEYS if f"| `{key}` |" not in below] == []
    assert f"| `max_cells` | {MAX_CELLS} |" in outermost


def test_the_example_of_the_page_is_a_matrix() -> None:
    """What readers copy must load."""
    example = re.search(r"(?:^    .*\n)+", page("matrix.md"), re.M)
    assert example

    assert set(yaml.safe_load(inspect.cleandoc("\n" + example[0]))) <= set(outline.KEYS)


def test_annotated_is_what_options_are_found_by() -> None:
    """`options` relies on Annotated metadata; plain defaults would escape it."""
    function = verb_named("submit")
    hints = get_type_hints(function, include_extras=True)

    assert all(
        hasattr(hints[name], "__metadata__") for name in inspect.signature(function).parameters
    ), Annotated

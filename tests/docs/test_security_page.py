"""SECURITY.md: every surface names where its rule is kept and a test that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("durable", "jobs", "checkpoints", "orchestrator", "worker")
SURFACES = {f"S{number}" for number in (*range(1, 12), *range(15, 19))}


def rows() -> dict[str, list[str]]:
    """Return the table's cells by surface."""
    found = {}
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        match = re.match(r"\| (S\d+) ", line)
        if match:
            found[match[1]] = [cell.strip() for cell in line.strip("|").split(" | ")]
    return found


@cache
def modules() -> list[tuple[Path, ast.Module]]:
    """Return all of our code."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Yield all calls with the last part of the called name."""
    for path, module in modules():
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", None) or getattr(node.func, "id", "")
                yield path, node, name


def test_every_surface_has_its_row() -> None:
    """The list of surfaces is that of the threat model."""
    assert set(rows()) == SURFACES


@pytest.mark.parametrize("surface", sorted(SURFACES))
def test_what_a_row_names_exists(surface: str) -> None:
    """Whoever renames a module or a test meets this page."""
    _, _, kept, tried = rows()[surface]
    for named in re.findall(r"`([^`]+)`", f"{kept} {tried}"):
        path, _, test = named.partition("::")
        assert (ROOT / path).is_file(), named
        if test:
            body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
            assert test in {d.name for d in body if isinstance(d, ast.FunctionDef)}, named
    assert re.search(r"`tests/", tried)


def test_nothing_unpickles() -> None:
    """S6: not with pickle, and not with what loads pickles behind another name."""
    loaders = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path, module in modules():
        for node in ast.walk(module):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            module_name = getattr(node, "module", None) or ""
            imported = {name.partition(".")[0] for name in [*names, module_name]}
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not imported & loaders, path
    for path, call, _ in calls():
        named = ast.unparse(call.func)
        assert named not in {"torch.load", "torch.save", "np.load", "numpy.load"}, path


def test_no_model_brings_its_code() -> None:
    """S8: every way in which transformers loads something refuses remote code."""
    loading = [
        (path, call)
        for path, call, name in calls()
        if name in {"from_pretrained", "from_config"} and ast.unparse(call.func).startswith("Auto")
    ]
    assert loading
    for path, call in loading:
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        options = said.get(None)  # `**options`, which are literal in the same file
        source = path.read_text(encoding="utf-8")
        refused = said.get("trust_remote_code") == "False" or (
            options is not None and '"trust_remote_code": False' in source
        )
        assert refused, f"{path}:{call.lineno}"


def test_no_statement_is_put_together_from_text() -> None:
    """S16: SQL is a constant, or has a name in `sql/`; what a caller says is a parameter."""
    for path, call, name in calls():
        if name in {"execute", "executemany", "executescript"} and path.parts[-2] == "orchestrator":
            statement = call.args[0]
            if isinstance(statement, ast.JoinedStr | ast.BinOp):
                words = ast.unparse(statement)
                assert re.search(r"PRAGMA|VACUUM|ATTACH", words), f"{path}:{call.lineno}: {words}"

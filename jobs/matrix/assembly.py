"""From a cell to a job: every section judged and checked, then put in normal form."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.matrix.aliases import Aliases
from jobs.matrix.checks_command import (
    CommandFiles,
    check_command,
    check_command_engine,
    normal_command,
)
from jobs.matrix.checks_model import check_method, check_model, known_architecture
from jobs.matrix.checks_run import check_best_metric, check_length, check_resources, check_train
from jobs.matrix.checks_task import check_task
from jobs.matrix.expansion import Cell
from jobs.matrix.fields import REQUIRED_SECTIONS, RUN_SECTIONS, SEMANTIC_SECTIONS
from jobs.matrix.findings import Finding
from jobs.matrix.identity import Identities, Siblings
from jobs.matrix.normal_form import (
    normal_engine,
    normal_method,
    normal_model,
    normal_task,
    normal_train,
)
from jobs.matrix.sections import Judged, SectionReader
from jobs.snapshot import CodeRefused
from jobs.spec import CommandSemantic, Run, Semantic
from jobs.yaml_strict import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where names of models and tasks are looked up."""

    base_dir: Path
    models_root: Path | None = None
    data_root: Path | None = None


@dataclass(frozen=True, slots=True)
class Assembled:
    """A cell's parts of a spec."""

    semantic: Semantic | CommandSemantic
    run: Run
    id: str  # of the job


_Check = tuple[Callable[..., Iterable[Finding]], tuple[str, ...], dict[str, Any]]
_Outcome = tuple[Assembled | None, tuple[Finding, ...]]


@dataclass(slots=True)
class _Family:
    """What became of the first of siblings; of the others with it, but for the seed."""

    data: dict[str, Node]  # kept, so that its id stays its own
    first: Assembled
    siblings: Siblings | None = None


class Assembler:
    """Turns cells into parts of specs. What equal sections have in common is done once."""

    def __init__(
        self, roots: Roots, *, absent_ok: bool = False, aliases: Mapping[str, str] | None = None
    ) -> None:
        self._roots, self._absent_ok = roots, absent_ok
        self._aliases = Aliases(aliases or {})
        self._files = CommandFiles(base_dir=roots.base_dir, data_root=roots.data_root)
        self._sections = SectionReader()
        self._identities = Identities()
        models = {"base_dir": roots.base_dir, "models_root": roots.models_root}
        self._checks: list[_Check] = [
            (check_model, ("model",), models),
            (check_method, ("method", "model"), models),
            (check_task, ("task",), {"base_dir": roots.base_dir, "data_root": roots.data_root}),
            (check_command, ("command",), {"files": self._files}),
            (check_train, ("train", "engine"), {}),
            (check_best_metric, ("train", "task"), {}),
            (check_length, ("task", "model", "method"), {}),
            (check_command_engine, ("engine", "command"), {}),
            (check_resources, ("resources", "retry", "engine", "grace_seconds"), {}),
        ]
        self._checked: dict[tuple[Any, ...], tuple[Finding, ...]] = {}
        self._normal: dict[tuple[Any, ...], Any] = {}
        self._families: dict[int, _Family] = {}  # by the id of their data

    def judge_shared(self, data: dict[str, Node]) -> Iterator[Finding]:
        """Yield what is wrong with single values that all cells share.

        A wrong default is wrong also where every cell replaces it; what is incomplete, or does
        not fit together, is only wrong in a cell.
        """
        for name, raw in data.items():
            judged = self._sections.judge(name, self._aliases.replaced(name, raw))
            yield from (finding for finding in judged.findings if not finding.of_whole)

    def assemble(self, cell: Cell) -> tuple[Assembled | None, tuple[Finding, ...]]:
        """Return the cell's parts, or None, and every finding.

        With `absent_ok` a cell whose only findings are sources that are not here has parts, too.
        Siblings, which differ only in their seed, are assembled once.
        """
        judge = self._sections.judge
        seed = judge("seed", cell.seed.value)
        family = self._families.get(id(cell.data))
        if family is None or seed.findings:
            judged = {
                name: judge(name, self._aliases.replaced(name, raw))
                for name, raw in cell.data.items()
            }
            parts, findings = self._assemble({**judged, "seed": seed})
            if parts is not None:
                self._families[id(cell.data)] = _Family(cell.data, parts)
            return parts, findings
        if family.siblings is None:
            family.siblings = Siblings(family.first.semantic, self._identities)
        semantic, identity = family.siblings.member(seed.value)
        return Assembled(semantic, family.first.run, identity), ()

    def _assemble(self, judged: dict[str, Judged]) -> _Outcome:
        findings = list(_wrong_sections(judged))
        sections = _Sections(judged, {name: id(one) for name, one in judged.items()})
        for one in judged.values():
            findings += one.findings
        findings += self._check(sections)
        if any(f.absent is None or not self._absent_ok for f in findings):
            return None, tuple(findings)
        try:
            return self._build(sections), tuple(findings)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}"
            where = "command" if "command" in judged else "task"
            return None, (Finding(path=(where,), message=message, fix="make it readable"),)
        except CodeRefused as error:
            section = ("command",) if "command" in judged else ("task", "code")
            return None, (Finding(path=section, message=str(error), fix=error.fix),)
        except ValidationError as error:  # the spec knows more than the checks
            message = error.errors(include_url=False)[0]["msg"]
            return None, (Finding(path=(), message=message, fix="change one of them"),)

    def _check(self, sections: _Sections) -> Iterator[Finding]:
        ids = sections.ids.get
        for number, (check, names, options) in enumerate(self._checks):
            key = (number, *map(ids, names))
            found = self._checked.get(key)
            if found is None:
                found = ()
                if sections.valid(names):  # otherwise it was said already
                    found = tuple(check(*map(sections.value, names), **options))
                self._checked[key] = found
            yield from found

    def _build(self, sections: _Sections) -> Assembled:
        values = {name: sections.value(name) for name in RUN_SECTIONS}
        base_dir = str(self._roots.base_dir)
        run = self._once(sections, RUN_SECTIONS, lambda: Run(**values, base_dir=base_dir))
        command = "command" in sections.judged
        semantic = self._command(sections) if command else self._training(sections)
        return Assembled(semantic, run, self._identities.job_id(semantic))

    def _command(self, sections: _Sections) -> CommandSemantic:
        given = sections.value("command")
        command, code = self._once(
            sections,
            ("command",),
            lambda: normal_command(given, files=self._files),
        )
        return CommandSemantic(
            command=command,
            engine=sections.value("engine"),
            seed=sections.value("seed"),
            code_digest=code,
        )

    def _training(self, sections: _Sections) -> Semantic:
        roots = self._roots
        model, method = sections.value("model"), sections.value("method")
        task, train, engine = (sections.value(name) for name in ("task", "train", "engine"))
        model_roots: dict[str, Any] = {"base_dir": roots.base_dir, "models_root": roots.models_root}
        return Semantic(
            model=self._once(sections, ("model",), lambda: normal_model(model, **model_roots)),
            method=self._once(
                sections,
                ("method", "model"),
                lambda: normal_method(method, known_architecture(model, **model_roots)),
            ),
            task=self._once(
                sections,
                ("task",),
                lambda: normal_task(task, base_dir=roots.base_dir, data_root=roots.data_root),
            ),
            train=self._once(sections, ("train", "engine"), lambda: normal_train(train, engine)),
            engine=self._once(sections, ("engine",), lambda: normal_engine(engine)),
            seed=sections.value("seed"),
            code_digest=self._files.code((task.code,)) if task.code is not None else None,
        )

    def _once(self, sections: _Sections, names: tuple[str, ...], make: Callable[[], Any]) -> Any:
        key = (names, *map(sections.ids.get, names))
        if key not in self._normal:
            self._normal[key] = make()
        return self._normal[key]


_DEFAULTS: dict[str, Any] = {
    **{
        n: Semantic.model_fields[n].default
        for n in SEMANTIC_SECTIONS
        if n not in (*REQUIRED_SECTIONS, "command")
    },
    **{name: Run.model_fields[name].default for name in RUN_SECTIONS},
}


def _wrong_sections(data: Collection[str]) -> Iterator[Finding]:
    """Yield the sections that a training lacks, or that a command has too many."""
    for name in REQUIRED_SECTIONS:
        if "command" in data and name in data:
            message = "a cell has either `command`, or model, method, task and train"
            yield Finding(path=(name,), message=message, fix="remove one of them", at_key=True)
        elif "command" not in data and name not in data:
            yield Finding(path=(name,), message="is required", fix=f"add `{name}:`", at_key=True)


@dataclass(frozen=True, slots=True)
class _Sections:
    """A cell's judged sections; what nobody wrote has the spec's default."""

    judged: dict[str, Judged]
    ids: dict[str, int]  # of the judged values, which the reader of sections keeps

    def valid(self, names: Iterable[str]) -> bool:
        return all(
            not self.judged[name].findings if name in self.judged else name in _DEFAULTS
            for name in names
        )

    def value(self, name: str) -> Any:
        return self.judged[name].value if name in self.judged else _DEFAULTS[name]

"""The strict YAML reader: plain data plus the place of every key and value.

UTF-8 only; at most 1 MiB, 20 levels, 50,000 nodes. Duplicate keys, anchors, aliases, tags, merge
keys, directives, several documents and control characters are refused, so nothing a file says
can run code, grow, or mean two things. Built on PyYAML's event parser (its SafeLoader), which
needs no recursion; its constructors and resolvers are not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from jobs.errors import MatrixInvalid, Problem
from jobs.names import UNSAFE_IN_FILE, UNSAFE_IN_NAME, UNSAFE_IN_TEXT, printable
from jobs.yaml_scalars import BadScalar, Scalar, plain_value

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_NODES = 50_000
MAX_KEY = 200  # characters

Key = str | int  # of a mapping, of a list
KeyPath = tuple[Key, ...]
Node = Scalar | list["Node"] | dict[str, "Node"]


class Mark(NamedTuple):
    """A place in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file says and where it says it."""

    file: str
    data: Node
    keys: dict[KeyPath, Mark] = field(default_factory=dict)  # of mapping entries
    values: dict[KeyPath, Mark] = field(default_factory=dict)

    def place(self, path: KeyPath, *, key: bool = False) -> Mark:
        """Return where the value (or the key) at `path` stands, or its nearest parent that does."""
        first, second = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(path), -1, -1):
            part = path[:length]
            mark = first.get(part) or second.get(part)
            if mark is not None:
                return mark
        return Mark(1, 1)

    def problem(self, path: KeyPath, message: str, fix: str, *, key: bool = False) -> Problem:
        """Return a problem at the value (or the key) at `path`."""
        line, column = self.place(path, key=key)
        return Problem(
            file=self.file,
            line=line,
            column=column,
            key=dotted(path),
            message=message,
            fix=fix,
        )


def dotted(path: KeyPath) -> str:
    """Return a path as people write it, e.g. `matrix[0].grid.train.lr[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return printable(text, limit=120).strip("`")


def read_yaml(path: Path) -> Document:
    """Return the file's document. Raises `MatrixInvalid` with every problem, or OSError."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    return parse_yaml(data, file=str(path))


def parse_yaml(data: bytes, *, file: str) -> Document:
    """Return the document of `data`. Raises `MatrixInvalid` with every problem found."""
    text = _decode(data, file)
    reader = _Reader(file)
    try:
        # The loader is fed by events: SafeLoader's constructors never see them.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if not reader.take(event):
                break
    except yaml.YAMLError as error:
        reader.problems.append(_syntax_problem(error, file))
    if reader.problems:
        raise MatrixInvalid(reader.problems)
    return reader.document


def _decode(data: bytes, file: str) -> str:
    def refuse(line: int, column: int, message: str, fix: str) -> MatrixInvalid:
        return MatrixInvalid(
            [Problem(file=file, line=line, column=column, key="", message=message, fix=fix)]
        )

    if len(data) > MAX_BYTES:
        raise refuse(1, 1, f"larger than {MAX_BYTES} bytes", "split it into several matrices")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        message = f"not UTF-8 (byte 0x{data[error.start]:02x})"
        raise refuse(line, column, message, "save the file as UTF-8") from None
    bad = UNSAFE_IN_FILE.search(text)
    if bad:
        line, column = (
            text.count("\n", 0, bad.start()) + 1,
            bad.start() - text.rfind("\n", 0, bad.start()),
        )
        message = f"control character {bad[0]!a}"
        raise refuse(line, column, message, "remove it")
    return text


_SYNTAX_FIXES = (
    ("character '\\t'", "indent with spaces, not with tabs"),
    (
        "mapping values are not allowed",
        "quote a value that contains `: `, or check the indentation",
    ),
    ("but found '<scalar>'", "check the quotes of this line and of those above"),
    ("expected <block end>", "check the indentation of this line"),
    ("could not find expected ':'", "a key needs a colon and a space after it"),
    ("found unexpected end of stream", "close the quote or bracket"),
    ("expected ',' or", "close the bracket, or put a comma"),
    ("cannot start any token", "quote the value"),
)


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    message = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    whole = f"{context}, {message}" if context else message
    return Problem(
        file=file,
        line=mark.line + 1 if mark else 1,
        column=mark.column + 1 if mark else 1,
        key="",
        message=f"not YAML: {printable(whole, limit=200).strip('`')}",
        fix=next((fix for part, fix in _SYNTAX_FIXES if part in whole), "correct the syntax"),
    )


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read."""

    path: KeyPath
    value: list[Node] | dict[str, Node]
    key: str | None = None  # of the entry whose value comes next
    discard: bool = False  # the entry's key was refused: read its value, keep nothing


class _Reader:
    """Takes parser events one by one and builds the document; keeps every problem."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self.document = Document(file=file, data=None)
        self._stack: list[_Open] = []
        self._nodes = 0
        self._documents = 0
        self._skipped = 0  # depth inside a refused complex key
        self._aliased = False

    def take(self, event: yaml.Event) -> bool:
        """Use one event; False: the file is beyond a limit, read no further."""
        if isinstance(event, yaml.DocumentStartEvent):
            return self._start_document(event)
        if isinstance(event, yaml.AliasEvent):
            self._refuse_alias(event)
            self._place(event, None)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            return self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()
        return True

    def _start_document(self, event: yaml.DocumentStartEvent) -> bool:
        self._documents += 1
        if self._documents > 1:
            self._problem(event, "a second document", "keep one matrix in a file; remove `---`")
            return False
        if event.version or event.tags:
            self._problem(event, "a % directive", "remove the line")
        return True

    def _node(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> bool:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._problem(event, f"more than {MAX_NODES:,} nodes", "split it into several matrices")
            return False
        if event.anchor:
            self._aliased = True
            self._problem(event, f"anchor &{event.anchor[:40]}", "write the value out; no anchors")
        if event.tag is not None:
            self._problem(event, f"tag {printable(event.tag)}", "remove the tag")
        if isinstance(event, yaml.ScalarEvent):
            self._place(event, event)
            return True
        if len(self._stack) + self._skipped >= MAX_DEPTH:
            self._problem(event, f"nested deeper than {MAX_DEPTH} levels", "flatten it")
            return False
        self._open(event)
        return True

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if self._skipped or self._wants_key():
            if not self._skipped:
                self._problem(event, "a list or mapping as a key", "use a word as the key")
            self._skipped += 1
            return
        value: list[Node] | dict[str, Node] = (
            {} if isinstance(event, yaml.MappingStartEvent) else []
        )
        self._stack.append(_Open(path=self._add(event, value), value=value))

    def _end(self) -> None:
        if not self._skipped:
            self._stack.pop()
            return
        self._skipped -= 1
        if not self._skipped:
            self._discard_entry()

    def _wants_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return (
            top is not None and isinstance(top.value, dict) and top.key is None and not top.discard
        )

    def _discard_entry(self) -> None:
        self._stack[-1].discard = True

    def _place(self, event: yaml.Event, scalar: yaml.ScalarEvent | None) -> None:
        """Put a scalar (None: an alias, refused already) where it belongs."""
        if self._skipped:
            return
        if self._wants_key():
            if scalar is None:
                self._discard_entry()
            else:
                self._key(scalar)
            return
        self._add(event, None if scalar is None else self._scalar(scalar))

    def _key(self, event: yaml.ScalarEvent) -> None:
        top = self._stack[-1]
        assert isinstance(top.value, dict)
        name: str = event.value
        path = (*top.path, name)
        if name == "<<" and event.style is None:
            self._problem(event, "merge key <<", "write the keys out")
        elif len(name) > MAX_KEY or UNSAFE_IN_NAME.search(name):
            self._problem(
                event, f"key {printable(name)}", "use a short word without control characters"
            )
        elif name in top.value:
            first = self.document.keys[path].line
            self._problem(
                event, f"duplicate key {printable(name)}, first on line {first}", "keep one", path
            )
        else:
            top.key = name
            self.document.keys[path] = _mark(event)
            return
        self._discard_entry()

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text: str = event.value
        if UNSAFE_IN_TEXT.search(text):
            self._problem(event, "an escaped control character", "remove it", self._path())
            return None
        if event.style is not None:
            return text
        try:
            return plain_value(text)
        except BadScalar as error:
            self._problem(event, str(error), error.fix, self._path())
            return None

    def _path(self) -> KeyPath:
        """Return the path of the value that comes next."""
        if not self._stack:
            return ()
        top = self._stack[-1]
        if isinstance(top.value, list):
            return (*top.path, len(top.value))
        return (*top.path, top.key or "?")

    def _add(self, event: yaml.Event, value: Node) -> KeyPath:
        path = self._path()
        if not self._stack:
            self.document = Document(
                file=self.document.file,
                data=value,
                keys=self.document.keys,
                values=self.document.values,
            )
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.value, list):
            top.value.append(value)
        elif top is not None and isinstance(top.value, dict):
            if top.key is not None:
                top.value[top.key] = value
            top.key, top.discard = None, False
        self.document.values[path] = _mark(event)
        return path

    def _refuse_alias(self, event: yaml.AliasEvent) -> None:
        # A file with an anchor is refused for it; its aliases would only repeat the point.
        if not self._aliased:
            message = f"alias *{str(event.anchor)[:40]}"
            self._problem(event, message, "write the value out; quote a text that begins with *")
        self._aliased = True

    def _problem(
        self, event: yaml.Event, message: str, fix: str, path: KeyPath | None = None
    ) -> None:
        line, column = _mark(event)
        where = path if path is not None else (self._stack[-1].path if self._stack else ())
        self.problems.append(
            Problem(
                file=self.document.file,
                line=line,
                column=column,
                key=dotted(where),
                message=message,
                fix=fix,
            )
        )


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def leaves(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Scalar]]:
    """Yield every scalar of a node with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, (*path, index))
    else:
        yield path, node

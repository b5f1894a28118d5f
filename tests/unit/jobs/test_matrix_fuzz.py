"""Whatever somebody writes: a matrix, or problems with places. Never another exception."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import MatrixInvalid
from jobs.matrix import load_matrix
from jobs.matrix.fields import dotted_keys

START: dict[str, Any] = {
    "version": 1,
    "name": "fuzz",
    "defaults": {
        "model": {"family": "decoder", "config": {"n_layer": 1, "n_embd": 32, "n_head": 4}},
        "method": {"name": "lora", "rank": 8, "alpha": 16},
        "task": {"name": "tsv", "path": "package:quickstart", "prompt": "{input}"},
        "train": {"steps": 60, "global_batch": 8, "lr": 1e-3, "adam_betas": [0.9, 0.99]},
        "engine": {"ranks": 2},
    },
    "matrix": [
        {
            "grid": {"train.lr": [1e-3, 3e-3], "method": [{"name": "full"}]},
            "zip": {"train.steps": [10, 20], "train.warmup_steps": [1, 2]},
            "set": {"resources.nodes": 1},
            "exclude": [{"train.lr": 1e-3, "seed": [1]}],
            "when": {"engine.ranks": 2},
        }
    ],
    "seeds": [1, 2],
    "resources": {"memory_gb": 2},
    "save": {"every_steps": 5},
    "retry": {},
    "grace_seconds": 5,
    "rehearsal": {"at_step": 5},
}

WORDS = st.sampled_from(
    [
        *dotted_keys(),
        *("grid", "zip", "set", "when", "exclude", "name", "path", "lora", "full"),
        *("../x", "a b", "~", ""),
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 100)
    | st.floats(-1, 2)
    | WORDS
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every path inside a node but the root's."""
    inside: Any = node.items() if isinstance(node, dict) else ()
    if isinstance(node, list):
        inside = enumerate(node)
    found = []
    for key, value in inside:
        found += [(*path, key), *places(value, (*path, key))]
    return found


def changed(start: Any, draw: st.DataObject) -> Any:
    """Return the start with up to three places replaced, removed or joined by a new key."""
    data = copy.deepcopy(start)
    for _ in range(draw.draw(st.integers(1, 3))):
        options = places(data)
        if not options:
            break
        *above, last = draw.draw(st.sampled_from(options))
        node = data
        for part in above:
            node = node[part]
        action = draw.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "remove":
            del node[last]
        elif action == "add" and isinstance(node, dict):
            node[draw.draw(WORDS)] = draw.draw(VALUES)
        else:
            node[last] = draw.draw(VALUES)
    return data


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_changed_matrix_is_valid_or_told_why(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Three slips at once, anywhere, of any shape."""
    path: Path = tmp_path_factory.mktemp("fuzz") / "m.yaml"
    path.write_text(json.dumps(changed(START, data), ensure_ascii=False))
    problems = None
    try:
        matrix = load_matrix(path)
    except MatrixInvalid as error:
        problems = error.problems
    else:
        assert len({job.id for job in matrix.jobs}) == len({job.name for job in matrix.jobs})
    assert problems is None or all(p.line >= 1 and p.message and p.fix for p in problems)
    assert problems != ()


def test_the_start_is_valid(tmp_path: Path) -> None:
    """Otherwise the fuzzing would only look at what comes first."""
    path = tmp_path / "m.yaml"
    path.write_text(json.dumps(START))

    assert load_matrix(path).cells == 6

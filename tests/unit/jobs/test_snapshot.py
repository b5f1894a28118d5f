"""A snapshot is the code that was named: all of it, nothing secret, and detectably unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs import snapshot
from jobs.snapshot import CodeRefused, code_digest, collect, snapshot_digest, tree_digest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A project with code, caches, secrets and a virtual environment."""
    for path in (
        "train.py",
        "lib/model.py",
        "lib/deep/util.py",
        "lib/.env",
        "lib/.git/config",
        "lib/__pycache__/model.cpython-311.pyc",
        "lib/old.pyc",
        "lib/env/pyvenv.cfg",
        "lib/env/bin/activate",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def paths(base: Path, *names: str) -> list[str]:
    """Return the paths of what is collected."""
    return [file.path for file in collect(base, names)]


def test_a_directory_is_taken_whole_without_caches_secrets_and_environments(base: Path) -> None:
    """Hidden names, bytecode and virtual environments stay out."""
    assert paths(base, "lib/", "train.py") == ["lib/deep/util.py", "lib/model.py", "train.py"]


def test_a_hidden_file_is_taken_when_it_is_named(base: Path) -> None:
    """Naming it is a decision."""
    assert paths(base, "lib/.env") == ["lib/.env"]


def test_naming_a_file_twice_is_naming_it_once(base: Path) -> None:
    """The digest is of the files, not of how they were named."""
    one, other = collect(base, ["lib", "lib/model.py"]), collect(base, ["lib"])

    assert code_digest(one) == code_digest(other)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "~/x", ".", "", "none.py"])
def test_what_is_not_below_the_matrix_is_refused(base: Path, name: str) -> None:
    """Also the whole directory, which has the matrix file in it."""
    with pytest.raises(CodeRefused) as caught:
        collect(base, [name])

    assert caught.value.fix


def test_a_link_inside_is_its_file_and_a_link_outside_is_refused(base: Path) -> None:
    """What is copied is what the user could read in the project, never a file elsewhere."""
    (base / "alias.py").symlink_to("train.py")
    (base / "lib" / "passwd").symlink_to("/etc/passwd")

    assert collect(base, ["alias.py"])[0].digest == collect(base, ["train.py"])[0].digest
    with pytest.raises(CodeRefused, match="lib/passwd"):
        collect(base, ["lib"])


def test_a_linked_directory_is_refused(base: Path) -> None:
    """It may be endless, or somebody else's."""
    (base / "lib" / "loop").symlink_to("..")

    with pytest.raises(CodeRefused, match="lib/loop"):
        collect(base, ["lib"])


def test_a_path_below_a_link_that_leaves_is_refused(base: Path, tmp_path_factory: object) -> None:
    """`outside/file` is no way out either."""
    (base / "outside").symlink_to("/etc")

    with pytest.raises(CodeRefused):
        collect(base, ["outside/passwd"])


def test_too_many_and_too_large_is_refused_with_the_reason(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data named by mistake must not fill the state directory."""
    monkeypatch.setattr(snapshot, "MAX_FILES", 1)
    with pytest.raises(CodeRefused, match="more than 1 files"):
        collect(base, ["lib"])
    monkeypatch.setattr(snapshot, "MAX_FILES", 100)
    monkeypatch.setattr(snapshot, "MAX_BYTES", 3)
    with pytest.raises(CodeRefused, match="MiB"):
        collect(base, ["lib"])


def test_the_digest_is_of_paths_modes_and_bytes(base: Path) -> None:
    """Each of them can change what runs."""
    before = code_digest(collect(base, ["train.py"]))
    (base / "train.py").chmod(0o755)
    executable = code_digest(collect(base, ["train.py"]))
    (base / "train.py").write_text("other")
    edited = code_digest(collect(base, ["train.py"]))
    (base / "train.py").rename(base / "train2.py")

    assert len({before, executable, edited, code_digest(collect(base, ["train2.py"]))}) == 4


def test_a_copy_has_the_digest_until_anything_is_changed_or_added(base: Path) -> None:
    """Tampering is seen: an edit, a new file, a link."""
    digest = code_digest(collect(base, ["lib/deep"]))
    copy = base / "copy"
    (copy / "lib/deep").mkdir(parents=True)
    (copy / "lib/deep/util.py").write_text("lib/deep/util.py")
    assert snapshot_digest(copy) == digest

    (copy / "lib/link.py").symlink_to("deep/util.py")
    linked = snapshot_digest(copy)
    (copy / "lib/link.py").unlink()
    (copy / "lib/new.py").write_text("")
    added = snapshot_digest(copy)

    assert digest not in (linked, added)


def test_an_input_is_known_by_its_bytes_and_by_where_they_lie(base: Path) -> None:
    """Moving a file within a directory of data is a change of the data."""
    before = tree_digest(base / "lib/deep")
    (base / "lib/deep/util.py").rename(base / "lib/deep/moved.py")

    assert tree_digest(base / "lib/deep") != before
    assert tree_digest(base / "train.py") != tree_digest(base / "lib/model.py")

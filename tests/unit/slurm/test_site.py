"""site.yaml: which file counts, who may have written it, what it may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.contract.records import WorkerSite
from orchestrator.site import Site, SiteInvalid, find_site, load_site, read_site
from orchestrator.site_schema import EXTRA_KEYS

FULL = """
version: 1
account: proj
qos: normal
partition: [gpu, preempt]
reservation: res
gpus: {style: gpus-per-task, type: a100}
constraint: "(a100|h100)&ib"
exclude: "node[01-04],bad7"
nice: 100
mail: {user: me@site.org, types: [FAIL, END]}
cpus_per_rank: 8
extra: {exclusive: true, hint: nomultithread}
setup:
  - module load cuda/12
  - source /opt/conda/bin/activate train
container_prefix: [apptainer, exec, --nv, /images/torch.sif]
python: /usr/bin/python3
interface: ib0
masked_words: [error, Traceback]
max_in_flight: 200
rank_timeout_seconds: 120
models_root: /data/models
data_root: /data/sets
state_root: /home/me/orch
scratch_root: /scratch/me
node_scratch_root: /local/me
node_strikes: {jobs: 5, window_minutes: 30, keep_off_minutes: 120, probation_minutes: 0, share: 0.1}
preemption: {mode: REQUEUE, grace_seconds: 120, kill_wait_seconds: 30}
watcher: {partition: service, memory_mb: 300, time_limit_minutes: 60}
"""


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a site file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def problems(tmp_path: Path, text: str) -> str:
    """Return what is said about a wrong file."""
    with pytest.raises(SiteInvalid) as raised:
        read_site(write(tmp_path / "site.yaml", text))
    return str(raised.value)


def test_every_key_is_read(tmp_path: Path) -> None:
    """All that DESIGN lists, and the worker's part of it."""
    site = read_site(write(tmp_path / "site.yaml", FULL))

    assert site.partition == ("gpu", "preempt")
    assert site.container_prefix == ("apptainer", "exec", "--nv", "/images/torch.sif")
    assert site.setup[0] == "module load cuda/12"
    assert site.worker_site() == WorkerSite(
        models_root="/data/models",
        data_root="/data/sets",
        scratch_root="/scratch/me",
        node_scratch_root="/local/me",
        hub_cache="/scratch/me/huggingface/hub",
        interface="ib0",
        masked_words=("error", "Traceback"),
        rank_timeout_seconds=120.0,
    )
    assert set(Site.model_fields) == site.model_fields_set  # this test grows with the schema


def test_an_empty_file_is_a_plain_slurm(tmp_path: Path) -> None:
    """Every key is optional."""
    assert read_site(write(tmp_path / "site.yaml", "# nothing\n")) == Site()


def test_single_words_may_stand_for_lists(tmp_path: Path) -> None:
    """A partition is mostly one; a prefix is written as in a shell."""
    text = "partition: low\ncontainer_prefix: apptainer exec 'my image.sif'\n"
    site = read_site(write(tmp_path / "site.yaml", text))

    assert site.partition == ("low",)
    assert site.container_prefix == ("apptainer", "exec", "my image.sif")


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("acount: x", 1, "acount", "unknown key"),
        ("account: x\naccount: y", 2, "account", "duplicate"),
        ('account: "a\\nb"', 1, "account", ""),
        ("account: a b", 1, "account", "not a name"),
        ("account: -x", 1, "account", "not a name"),
        ("qos: 'a;b'", 1, "qos", "not a name"),
        ("partition: ['a,b']", 1, "partition[0]", "not a name"),
        ("constraint: a b", 1, "constraint", "not a constraint"),
        ("exclude: $(id)", 1, "exclude", "not a node list"),
        ("extra: {output: /tmp/x}", 1, "extra", "is not one of"),
        ("extra: {export: ALL}", 1, "extra", "is not one of"),
        ("extra: {array: 0-9}", 1, "extra", "is not one of"),
        ("extra: {hint: 'a b'}", 1, "extra.hint", "not an option's value"),
        ("nice: -5", 1, "nice", "greater than or equal to 0"),
        ("gpus: {style: magic}", 1, "gpus.style", "'gres'"),
        ("mail: {user: nobody}", 1, "mail.user", "mail address"),
        ("python: python3", 1, "python", "absolute path"),
        ("models_root: models", 1, "models_root", "absolute path"),
        ("setup: [' ']", 1, "setup[0]", "one line"),
        ('setup: ["a\\nb"]', 1, "setup[0]", ""),
        ("setup: &x [a]", 1, "", "anchor"),
        ("setup: !!python/name:os.system", 1, "", "tag"),
        ("version: 2", 1, "version", "1"),
        ("- a", 1, "", "not a mapping"),
        ("node_strikes: {share: 2}", 1, "node_strikes.share", "less than or equal to 1"),
        ("node_strikes: {jobs: 0}", 1, "node_strikes.jobs", "greater than 0"),
        ("cpus_per_rank: 0", 1, "cpus_per_rank", "greater than 0"),
        ("preemption: {grace_seconds: -1}", 1, "preemption.grace_seconds", "greater than"),
    ],
)
def test_wrong_values_are_refused_with_their_place(
    tmp_path: Path, text: str, line: int, key: str, words: str
) -> None:
    """File, line, key and what is wrong."""
    said = problems(tmp_path, text)

    assert f"{tmp_path}/site.yaml:{line}:" in said
    assert f": {key}" in said
    assert words in said


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """One run, not one problem a run."""
    said = problems(tmp_path, "account: a b\nqos: c d\nx: 1\n")

    assert [line.split(":")[1] for line in said.splitlines()] == ["1", "2", "3"]


@pytest.mark.parametrize("key", ["job-name", "comment", "output", "error", "export", "requeue"])
def test_no_site_may_take_orchs_own_options(key: str) -> None:
    """Identity, output, environment and restarts are not the site's to set."""
    assert key not in EXTRA_KEYS


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """It may hold shell that runs as us."""
    path = write(tmp_path / "site.yaml", "account: x\n", mode)

    with pytest.raises(SiteInvalid, match="chmod go-w"):
        read_site(path)


def test_a_file_in_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    """Everybody could replace it."""
    path = write(tmp_path / "open" / "site.yaml", "account: x\n")
    path.parent.chmod(0o777)

    with pytest.raises(SiteInvalid, match="chmod o-w"):
        read_site(path)


def test_a_strangers_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ours and root's are believed."""
    path = write(tmp_path / "site.yaml", "account: x\n")
    owner = path.stat().st_uid
    if owner == 0:
        import os

        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: owner + 1)

    with pytest.raises(SiteInvalid, match="belongs to user"):
        read_site(path)


def test_a_directory_or_a_missing_file_says_so(tmp_path: Path) -> None:
    """A named file must exist."""
    with pytest.raises(SiteInvalid, match="directory"):
        read_site(tmp_path)
    with pytest.raises(SiteInvalid, match="No such file"):
        load_site(tmp_path / "nowhere.yaml", home=tmp_path, environment={})


def test_the_first_place_counts_alone(tmp_path: Path) -> None:
    """--site, $ORCH_SITE, the state directory, the user's, the system's; no merging."""
    home, user = tmp_path / ".orch", tmp_path / "user"
    system = write(tmp_path / "etc" / "site.yaml", "account: system\n")
    environment = {"HOME": str(user)}

    def account(explicit: Path | None = None) -> tuple[str | None, str]:
        found = load_site(explicit, home=home, environment=environment, system=system)
        return found.site.account, found.found_by

    assert account() == ("system", "the system's")
    write(user / ".config" / "orch" / "site.yaml", "account: user\n")
    assert account() == ("user", "the user's")
    write(home / "site.yaml", "account: state\n")
    assert account() == ("state", "the state directory")
    environment["ORCH_SITE"] = str(write(tmp_path / "named.yaml", "account: named\n"))
    assert account() == ("named", "$ORCH_SITE")
    explicit = write(tmp_path / "given.yaml", "account: given\n")
    assert account(explicit) == ("given", "--site")


def test_without_any_file_the_defaults_hold(tmp_path: Path) -> None:
    """And the description says that there is none."""
    found = load_site(None, home=tmp_path, environment={}, system=tmp_path / "none.yaml")

    assert (found.site, found.path) == (Site(), None)
    assert found.describe() == ("no site.yaml: Slurm's own defaults",)


def test_a_dangling_link_counts_as_a_file(tmp_path: Path) -> None:
    """A site file that vanished must not silently become another one."""
    (tmp_path / "site.yaml").symlink_to(tmp_path / "gone")

    assert find_site(None, home=tmp_path, environment={}) is not None
    with pytest.raises(SiteInvalid):
        load_site(None, home=tmp_path, environment={})


def test_the_description_names_the_file_and_each_effect(tmp_path: Path) -> None:
    """For `orch doctor`."""
    path = write(tmp_path / "site.yaml", "account: proj\ngpus: {style: gres}\n")

    lines = load_site(path, home=tmp_path, environment={}).describe()

    assert lines[0] == f"{path} (--site)"
    assert lines[1:] == (
        "account: proj: sbatch --account",
        "gpus: style=gres: how GPUs are asked for",
    )

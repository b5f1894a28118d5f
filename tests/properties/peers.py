"""What peers do where `orch` has a property: each failure is made to happen, here and now.

Each function returns one line that says what was seen. They report; they do not judge: a peer that
has become better shows as that.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

WORKERS, SKEW_SECONDS, HANG_SECONDS, FLIPS = 2, 0.4, 45.0, 200
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DS_ACCELERATOR": "cpu",
    "PYTHONWARNINGS": "ignore",
}


def _environment() -> dict[str, str]:
    return {**os.environ, **_ENVIRONMENT}


def _run(*words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=_environment(),
        check=False,
    )


def _trainer(out: Path, *words: str) -> str:
    """Train in one process; return the digest of the weights.

    Raises RuntimeError with the peer's last words when it fails.
    """
    done = _run("-m", "tests.properties.hf_trainer", "--out", str(out), *words)
    digests = [line for line in done.stdout.splitlines() if line.startswith("digest ")]
    if not digests:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return digests[-1]


def _torchrun(out: Path, *words: str) -> subprocess.Popen[bytes]:
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    command += [str(random.randint(20_000, 40_000))]
    command += ["-m", "tests.properties.hf_trainer", "--out", str(out), *words]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=log,
            stderr=log,
            env=_environment(),
            start_new_session=True,
        )


def _wait_for_step(out: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        marks = [out / "r0", out / "r1"]
        if all(m.exists() and int(m.read_text() or 0) >= step for m in marks):
            return
        if process.poll() is not None:
            raise RuntimeError(f"the peer's training ended by itself: {(out / 'log').read_text()}")
        time.sleep(0.1)
    raise RuntimeError("the peer's training did not come so far")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def killed_while_saving(root: Path) -> str:
    """DeepSpeed names a checkpoint as the latest before all ranks have written it."""
    done = _run("-m", "tests.properties.deepspeed_race", str(root), seconds=600)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-300:]


def flipped_bits(root: Path) -> str:
    """Flip single bits of tensor data; count what the loaders notice."""
    import torch
    import torch.distributed.checkpoint as dcp
    from safetensors.torch import load_file, save_file

    tensors = {"w": torch.randn(256, 256)}
    loaders: dict[str, tuple[Path, Callable[[], object]]] = {}
    torch.save(tensors, root / "t.pt")
    loaders["torch.load"] = (root / "t.pt", lambda: torch.load(root / "t.pt", weights_only=True))
    save_file(tensors, str(root / "t.safetensors"))
    loaders["safetensors"] = (root / "t.safetensors", lambda: load_file(root / "t.safetensors"))
    dcp.save(tensors, checkpoint_id=str(root / "dcp"), no_dist=True)
    into = {"w": torch.zeros(256, 256)}
    loaders["torch.distributed.checkpoint"] = (
        root / "dcp" / "__0_0.distcp",
        lambda: dcp.load(into, checkpoint_id=str(root / "dcp"), no_dist=True),
    )
    found, draw = [], random.Random(1)
    for name, (path, load) in loaders.items():
        whole, noticed = path.read_bytes(), 0
        for _ in range(FLIPS):
            place = draw.randrange(len(whole) // 4, len(whole) * 3 // 4)  # tensor data
            flipped = bytes([whole[place] ^ (1 << draw.randrange(8))])
            path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
            try:
                load()
            except BaseException:
                noticed += 1
        path.write_bytes(whole)
        found.append(f"{name} {noticed} of {FLIPS}")
    return "flipped bits noticed: " + ", ".join(found)


def random_collator(root: Path) -> str:
    """Transformers' Trainer resumes in the midst of an epoch with a collator that draws masks."""
    whole = _trainer(root / "whole", "--masking")
    again = _trainer(root / "again", "--masking")
    _trainer(root / "broken", "--masking", "--steps", "12", "--save-steps", "5")
    resumed = _trainer(root / "broken", "--masking", "--resume", str(root / "broken/checkpoint-5"))
    same = "equal" if whole == again else "NOT equal"
    after = "equal" if resumed == whole else "other weights"
    return f"transformers' Trainer, random masks: two runs {same}; resumed at step 5: {after}"


def partial_notice(root: Path) -> str:
    """Transformers' just-in-time checkpoint with data loader workers, and with a skewed notice."""
    words = ("--jit", "--steps", "4000", "--seconds", "0.05")
    out = root / "workers"
    process = _torchrun(out, *words, "--workers", str(WORKERS))
    try:
        _wait_for_step(out, 3, process)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(HANG_SECONDS)
        saved = [p for p in out.glob("checkpoint-*") if (p / "trainer_state.json").exists()]
    finally:
        _end(process)
    first = (
        f"with {WORKERS} loader workers under torchrun {len(saved)} checkpoints saved at SIGTERM"
    )
    out = root / "skew"
    process = _torchrun(out, *words)
    try:
        _wait_for_step(out, 3, process)
        one, two = _children(process.pid)[:2]
        os.kill(one, signal.SIGTERM)
        time.sleep(SKEW_SECONDS)
        os.kill(two, signal.SIGTERM)
        started = time.monotonic()
        try:
            process.wait(HANG_SECONDS)
            how = f"ended after {time.monotonic() - started:.0f} s with {process.returncode}"
        except subprocess.TimeoutExpired:
            how = f"still hanging after {HANG_SECONDS:.0f} s"
        kept = {p.name: len(list(p.glob("rng_state_*"))) for p in out.glob("checkpoint-*")}
    finally:
        _end(process)
    return f"transformers' JIT checkpoint: {first}; notices {SKEW_SECONDS} s apart: {how}, {kept}"


def full_disk(root: Path) -> str:
    """Let accelerate keep one checkpoint, and its next save fail."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _accelerate(root)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    folder = root / "checkpoints"
    whole = [p.name for p in folder.glob("*") if (p / "model.safetensors").exists()]
    how = "the save failed" if os.waitstatus_to_exitcode(status) == 3 else "the save did NOT fail"
    return f"accelerate, total_limit=1: {how}; whole checkpoints left: {len(whole)}"


def _accelerate(root: Path) -> int:
    import torch
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    config = ProjectConfiguration(str(root), automatic_checkpoint_naming=True, total_limit=1)
    accelerator = Accelerator(cpu=True, project_config=config)
    model = torch.nn.Linear(256, 256)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    accelerator.save_state()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error then
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    try:
        accelerator.save_state()
    except Exception:
        return 3
    return 0


def missing_part(root: Path) -> str:
    """Transformers' Trainer resumes although the scheduler's state is gone."""
    whole = _trainer(root / "whole")
    _trainer(root / "broken", "--save-steps", "5")
    checkpoint = root / "broken" / "checkpoint-5"
    exact = _trainer(root / "exact", "--resume", str(checkpoint))
    (checkpoint / "scheduler.pt").unlink()
    try:
        resumed = _trainer(root / "without", "--resume", str(checkpoint))
        said = "resumed without an error, " + ("equal" if resumed == whole else "other weights")
    except RuntimeError as error:
        said = f"refused: {error}"
    same = "equal" if exact == whole else "NOT equal"
    return f"transformers' Trainer: from a whole checkpoint {same}; without scheduler.pt {said}"

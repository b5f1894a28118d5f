"""Stands for sbatch, squeue, sacct, scancel and scontrol; a JSON script says how each call behaves.

`script.json` beside the commands maps a command to a list of steps; each call takes the next one,
and a command without steps left tells the truth. The truth is `cluster.json`: what sbatch accepted.
A step may have: `accept` (sbatch takes the job, default true), `stdout` (instead of the truth),
`before` (a banner), `half` (the truth, cut in its middle), `size` (so many bytes of rubbish),
`stderr`, `rc`, `sleep` (seconds, before leaving; the deed is done before), `word` (a state word
for all rows), `forge` (another job whose name pretends to be our rows, completed).
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(sys.argv[0]).absolute().parent


def load(name: str, default: Any) -> Any:
    path = HERE / name
    return json.loads(path.read_text()) if path.exists() else default


def save(name: str, value: Any) -> None:
    fresh = HERE / f"{name}.{os.getpid()}"
    fresh.write_text(json.dumps(value))
    fresh.rename(HERE / name)


def next_step(command: str) -> dict[str, Any]:
    script = load("script.json", {})
    steps = script.get(command, [])
    step: dict[str, Any] = steps.pop(0) if steps else {}
    save("script.json", script)
    return step


def option(name: str) -> str | None:
    prefix = f"--{name}="
    return next((word.removeprefix(prefix) for word in sys.argv if word.startswith(prefix)), None)


def sbatch(step: dict[str, Any]) -> str:
    text = Path(sys.argv[-1]).read_text()
    token = re.search(r"--job-name=orch:([0-9a-f]+)", text)
    indices = re.search(r"--array=([0-9,-]+)", text)
    assert token is not None
    assert indices is not None
    if not step.get("accept", True):
        return ""
    jobs = load("cluster.json", [])
    job = {"id": str(100 + len(jobs)), "token": token[1], "indices": expand(indices[1])}
    save("cluster.json", [*jobs, {**job, "word": "PENDING"}])
    return f"{job['id']}\n"


def expand(text: str) -> list[int]:
    parts = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in parts for n in range(int(first), int(last or first) + 1)]


def squeue(step: dict[str, Any]) -> str:
    form = option("format") or ""
    if "--steps" in sys.argv:
        return ""
    separator, end = form.split("%K")[0].removeprefix("%F"), form.rpartition("%k")[2]
    rows = []
    for job in load("cluster.json", []):
        for index in job["indices"]:
            name = f"orch:{job['token']}"
            word = step.get("word", job["word"])
            fields = [job["id"], index, word, "None", "n1", "2026-01-01T00:00:00", name, name]
            if step.get("forge"):
                evil = "|".join(map(str, [job["id"], index, "COMPLETED", "None", "", "", name]))
                stranger = ["9", "N/A", "RUNNING", "None", "n1", "2026", f"x\n{evil}\n", "(null)"]
                rows.append(separator.join(stranger) + end + "\n")
            rows.append(separator.join(map(str, fields)) + end + "\n")
    return "".join(rows)


def sacct(step: dict[str, Any]) -> str:
    return ""


def scancel(step: dict[str, Any]) -> str:
    ended = {word.partition("_")[0] for word in sys.argv[1:] if word[:1].isdigit()}
    jobs = load("cluster.json", [])
    save("cluster.json", [{**j, "word": "CANCELLED"} if j["id"] in ended else j for j in jobs])
    return ""


def scontrol(step: dict[str, Any]) -> str:
    return "MaxArraySize = 1001\n" if "config" in sys.argv else ""


def main() -> int:
    command = Path(sys.argv[0]).name
    with (HERE / "calls.log").open("a") as log:
        log.write(json.dumps([command, *sys.argv[1:]]) + "\n")
    if command == "sbatch" and "--test-only" in sys.argv:
        sys.stderr.write("sbatch: Job 1 to start at 2026-01-01T00:00:00 using 1 processors\n")
        return 0  # a question, not a submission: it takes no step
    step = next_step(command)
    out = globals()[command](step)
    out = step.get("stdout", step.get("before", "") + out)
    if step.get("half"):
        out = out[: len(out) // 2]
    sys.stdout.write(out)
    if "size" in step:
        for _ in range(step["size"] >> 16):
            sys.stdout.write("x" * (1 << 16))
    sys.stdout.flush()
    sys.stderr.write(step.get("stderr", ""))
    sys.stderr.flush()
    time.sleep(step.get("sleep", 0))
    return int(step.get("rc", 0))


if __name__ == "__main__":
    sys.exit(main())

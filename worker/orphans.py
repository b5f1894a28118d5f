"""A rank whose local launcher was killed gets its notice from the kernel.

Otherwise it would train on unseen, beside the attempt that takes its place (whose epoch fences
it, but its CPUs would be taken). Under Slurm the node's daemon sees to this.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

LAUNCHER = "ORCH_LAUNCHER_PID"  # set for ranks that the launcher itself starts
_PR_SET_PDEATHSIG = 1


def leave_with_launcher(env: Mapping[str, str]) -> None:
    """Let this process get SIGTERM, a notice, when its launcher dies. Linux only; else nothing."""
    launcher = env.get(LAUNCHER, "")
    if not launcher.isdecimal() or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(launcher):  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGTERM)

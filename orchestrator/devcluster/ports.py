"""Free loopback ports, below the range that the kernel hands to outgoing connections."""

from __future__ import annotations

import errno
import random
import socket

from orchestrator.devcluster.config import Ports

FIRST, LAST = 10_000, 31_999


def free_ports(nodes: int) -> Ports:
    """Return distinct ports that nobody listens on now; raises OSError when there are none.

    Somebody else may take one before the daemon does: `up` then notices and picks again.
    """
    wanted = nodes + 3
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(FIRST, LAST), k=min(200 * wanted, LAST - FIRST)):
            candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                # all interfaces: some daemons listen on more than loopback
                candidate.bind(("", port))
            except OSError:
                candidate.close()
                continue
            held.append(candidate)  # kept open, so that no port is found twice
            if len(held) == wanted:
                numbers = [entry.getsockname()[1] for entry in held]
                return Ports(
                    controller=numbers[0],
                    accounting=numbers[1],
                    database=numbers[2],
                    nodes=tuple(numbers[3:]),
                )
    finally:
        for entry in held:
            entry.close()
    raise OSError(errno.EADDRINUSE, f"fewer than {wanted} free ports from {FIRST} to {LAST}")

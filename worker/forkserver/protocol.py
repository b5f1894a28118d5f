"""What client and server say to each other: JSON packets on a Unix socket, one line per child.

client -> {callable, argv, env, cwd, output, tied}
server -> {pid, start, boot_id} or {refused}; at the child's end {exit}; then the line closes.

A child's record `children/PID.START` beside the socket exists while the child is not accounted
for; a child that ends by itself writes its exit code there. So a client can account for a child
whose server has died.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

MAX_PACKET_BYTES = 192 << 10  # below the kernel's default send buffer
RUN_RANK = "worker.main:run_rank"
# Read by libraries while they are imported: a forked child cannot have another value.
IMPORT_TIME = (
    "DS_ACCELERATOR",
    "HF_DATASETS_CACHE",
    "HF_DATASETS_OFFLINE",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)


def new_socket() -> socket.socket:
    """Return an unbound socket that keeps packets whole."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def socket_path(directory: Path) -> Path:
    """Return the server's socket in its private directory."""
    return directory / "fork.sock"


def child_record(directory: Path, pid: int, start: int) -> Path:
    """Return the record of a child that is not yet accounted for."""
    return directory / "children" / f"{pid}.{start}"


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one packet. Raises ValueError when it is too large (environment of the request)."""
    data = json.dumps(message).encode()
    if len(data) > MAX_PACKET_BYTES:
        raise ValueError(f"a request of {len(data)} bytes; at most {MAX_PACKET_BYTES} are taken")
    connection.sendall(data)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next packet's object, or None when the other side closed the line.

    Raises ValueError for what is no JSON object, OSError (also BlockingIOError) as it comes.
    """
    data = connection.recv(MAX_PACKET_BYTES)
    if not data:
        return None
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")
    return message

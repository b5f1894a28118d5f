"""How the ranks find each other: a store of our own on a socket of our own.

Rank 0 listens (on loopback when all ranks are on one node, so that nobody else can reach it),
publishes address and port in the attempt's directory, the others read it there. One rank alone
opens no socket at all.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d

from durable.files import publish_file
from jobs.contract.paths import AttemptDir
from worker.failures import PeerLost
from worker.layout import Layout
from worker.patience import Patience
from worker.silence import watch_collectives

LOOPBACK = "127.0.0.1"
FIRST_PORT, PORTS = 20_000, 30_000
TRIED_PORTS = 64
POLL_SECONDS = 0.02
OUT_OF_REACH = datetime.timedelta(days=30)  # `worker.silence` is the bound


def connect(
    layout: Layout,
    published: Path,
    *,
    timeout_seconds: float,
    start_patience: float,
    interface: str | None,
    backend: str,
) -> Any:
    """Initialise torch.distributed; return the store for our own use.

    `timeout_seconds` bounds every later collective, in time that this process is running, and
    times `start_patience` the rendezvous. Raises `PeerLost`.
    """
    timeout = datetime.timedelta(seconds=timeout_seconds)
    patience = timeout * start_patience
    _choose_interface(layout, interface)
    if layout.world_size == 1:
        store: Any = dist.HashStore()
    elif layout.rank == 0:
        store = _serve(layout, published, patience)
    else:
        store = _join(layout, published, patience)
    dist.init_process_group(  # its own set-up is under the store's patience, collectives are not
        backend=backend,
        store=dist.PrefixStore("group", store),
        rank=layout.rank,
        world_size=layout.world_size,
        timeout=_collective_timeout(timeout_seconds, backend=backend),
    )
    store.set_timeout(timeout)
    if backend == "gloo" and layout.world_size > 1:
        watch_collectives(timeout_seconds, store_port=store.port)
    return dist.PrefixStore("orch", store)


def bound_collectives(timeout_seconds: float) -> None:
    """Bound every collective of every group that exists by now.

    DeepSpeed makes groups of its own with torch's default of 30 minutes: so long would a rank
    wait for a stopped one.
    """
    timeout = _collective_timeout(timeout_seconds, backend=dist.get_backend())
    for group in list(distributed_c10d._world.pg_map):
        if dist.get_rank(group) >= 0:
            distributed_c10d._set_pg_timeout(timeout, group)


def _collective_timeout(seconds: float, *, backend: str) -> datetime.timedelta:
    """Return torch's own bound; gloo's would count time in which the job is suspended."""
    return datetime.timedelta(seconds=seconds) if backend != "gloo" else OUT_OF_REACH


def _choose_interface(layout: Layout, interface: str | None) -> None:
    if interface is None and layout.one_node:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    elif interface is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
        os.environ["NCCL_SOCKET_IFNAME"] = interface


def _serve(layout: Layout, published: Path, timeout: datetime.timedelta) -> Any:
    address = LOOPBACK if layout.one_node else own_address(layout.hosts[0], socket.gethostname())
    listener = listen(address, ports(None if layout.one_node else layout.port_seed))
    port = listener.getsockname()[1]
    store = dist.TCPStore(
        address,
        port,
        layout.world_size,
        is_master=True,
        timeout=timeout,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),  # the store owns it from here on
    )
    nonce = secrets.token_hex(8)
    store.set("nonce", nonce)
    record = {"schema_version": 1, "host": address, "port": port, "nonce": nonce}
    publish_file(published, json.dumps(record).encode() + b"\n", durable=False)
    return store


def own_address(*names: str) -> str:
    """Return an address of this host that other hosts can reach, by its names in this order.

    A scheduler's node names may be aliases that no resolver knows, and a host's own name often
    means loopback to itself (Debian's 127.0.1.1): that is the last choice. Raises OSError.
    """
    found: list[str] = []
    problem: OSError | None = None
    for name in names:
        try:
            found.append(socket.gethostbyname(name))
        except OSError as error:
            problem = problem or error
    if not found:
        raise problem or OSError("this host has no name")
    return next((address for address in found if not address.startswith("127.")), found[0])


def _join(layout: Layout, published: Path, timeout: datetime.timedelta) -> Any:
    left = Patience(timeout.total_seconds())
    ended = AttemptDir(published.parent).exit_record(0)
    while not published.exists():
        if ended.exists():
            raise PeerLost("rank 0 ended before the ranks had met")
        if left.over:
            raise PeerLost(f"{published}: rank 0 published no address in time")
        time.sleep(POLL_SECONDS)
    record = json.loads(published.read_bytes())
    try:
        store = dist.TCPStore(
            record["host"],
            record["port"],
            layout.world_size,
            is_master=False,
            timeout=timeout,
            wait_for_workers=False,
        )
        met = store.get("nonce").decode()
    except RuntimeError as error:
        raise PeerLost(f"rank 0 at {record['host']}:{record['port']}: {error}") from error
    if met != record["nonce"]:  # somebody else's store took over the port
        raise PeerLost(f"the store at {record['host']}:{record['port']} is not this attempt's")
    return store


def ports(seed: int | None) -> Iterator[int]:
    """Yield the ports to try. With a seed they are predictable, for firewalls; 0 means any."""
    if seed is not None:
        for offset in range(TRIED_PORTS):
            yield FIRST_PORT + (seed * 7 + offset) % PORTS
    yield 0


def listen(address: str, candidates: Iterator[int]) -> socket.socket:
    """Return a listening socket on the first free port. Raises OSError if none is."""
    problem: OSError | None = None
    for port in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.bind((address, port))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            problem = error
            continue
        return listener
    raise problem or OSError("no port to listen on")

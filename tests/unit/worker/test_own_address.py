"""Which address rank 0 gives the others."""

from __future__ import annotations

import socket

import pytest

from worker.rendezvous import own_address

KNOWN = {"alias": None, "loop": "127.0.1.1", "node": "10.0.0.7", "other": "10.0.0.8"}


@pytest.fixture(autouse=True)
def resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that knows some names."""

    def look_up(name: str) -> str:
        address = KNOWN[name]
        if address is None:
            raise socket.gaierror(-2, "Name or service not known")
        return address

    monkeypatch.setattr(socket, "gethostbyname", look_up)


@pytest.mark.parametrize(
    ("names", "address"),
    [
        (("node", "other"), "10.0.0.7"),
        (("alias", "node"), "10.0.0.7"),  # a node name that only Slurm knows
        (("loop", "node"), "10.0.0.7"),  # Debian gives a host's own name a loopback address
        (("alias", "loop"), "127.0.1.1"),  # several nodes on one machine
    ],
)
def test_the_first_reachable_address_is_taken(names: tuple[str, ...], address: str) -> None:
    """Loopback is the last choice, an unknown name none."""
    assert own_address(*names) == address


def test_a_host_without_any_known_name_says_so() -> None:
    """The resolver's own error reaches the log."""
    with pytest.raises(OSError, match="not known"):
        own_address("alias", "alias")

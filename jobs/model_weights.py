"""Which model directories are accepted: whole models in safetensors. Nothing here is opened.

Pickled weights (`pytorch_model.bin`, `.pt`) can run code when they are loaded, so they never are.
A directory with an `adapter_config.json` is refused as well: transformers would go to the base
that the file names, whatever stands in the spec, and take the adapter's pickle where it finds one.
"""

from __future__ import annotations

from pathlib import Path

from jobs.names import printable
from jobs.sources import SourceMissing, hub_snapshot

ADAPTER = "adapter_config.json"
_SAFE = ".safetensors"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".npy", ".npz", ".h5", ".msgpack")
_NO_WEIGHTS = frozenset({"training_args.bin"})  # what transformers' Trainer leaves beside them
_CONVERT = (
    "convert them once, where you trust them, and give the new directory:"
    " AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW) of transformers"
)


def check_weights(found: Path | str, *, revision: str | None = None) -> None:
    """Refuse a model's directory, or hub id, whose weights are not safetensors.

    Raises `SourceMissing` with the fix, OSError.
    """
    directory = found if isinstance(found, Path) else hub_snapshot(found, revision)
    if directory is None:
        return
    names = sorted(path.name for path in directory.iterdir())
    where = printable(str(directory), limit=200)
    if ADAPTER in names:
        raise SourceMissing(
            f"{where} is an adapter, not a whole model",
            "merge it into its base first (`orch checkpoints export --merge` does), and give that",
        )
    pickled = [n for n in names if n.endswith(_PICKLED) and n not in _NO_WEIGHTS]
    if pickled and not any(name.endswith(_SAFE) for name in names):
        raise SourceMissing(
            f"{where} has its weights as {printable(pickled[0])}, a format that can run code"
            " when it is loaded; only safetensors are",
            _CONVERT,
        )

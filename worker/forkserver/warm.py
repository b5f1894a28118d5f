"""What the server imports, and the proof that it may still be forked afterwards."""

from __future__ import annotations

import gc
import importlib
import os
import warnings
from pathlib import Path

# Beyond the packages themselves: what they import only when first used.
MODULES = (
    "torch",
    "torch.distributed",
    "safetensors.torch",
    "tokenizers",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "transformers.models.t5.modeling_t5",
    "transformers.models.bert.modeling_bert",
    "peft",
    "datasets",
    "deepspeed",
    "deepspeed.runtime.bf16_optimizer",
    "deepspeed.runtime.fp16.unfused_optimizer",
    "deepspeed.runtime.zero.stage3",
    "deepspeed.runtime.zero.stage_1_and_2",
    "worker.engine",
    "worker.snapshot",
)
_TASKS = Path("/proc/self/task")


class NotForkable(RuntimeError):
    """The imports started threads: a forked child could inherit a lock that nobody opens."""


def warm_up() -> None:
    """Import everything; raise `NotForkable` if that left more than one thread."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in MODULES:
            importlib.import_module(name)
        importlib.import_module("worker.engine").prepare_deepspeed()
        # A thousand regular expressions, compiled when peft first meets a model.
        mapping = importlib.import_module("transformers.conversion_mapping")
        mapping.get_checkpoint_conversion_mapping("gpt2")
    threads = sorted(entry.name for entry in _TASKS.iterdir())
    if len(threads) > 1:
        names = {(_TASKS / thread / "comm").read_text().strip() for thread in threads}
        raise NotForkable(
            f"{len(threads)} threads after the imports ({', '.join(sorted(names))}):"
            " start the server through ForkServer.start, which keeps libraries single-threaded"
        )
    gc.collect()
    gc.freeze()  # the collector of a child leaves the shared pages alone

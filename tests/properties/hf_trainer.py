"""A tiny training with transformers' Trainer, as its users write it: started by `peers`.

    torchrun --nproc-per-node 2 -m tests.properties.hf_trainer --out DIR [--steps N] [--jit] …

Prints `digest HEX` of the final weights on rank 0.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Rows(Dataset[dict[str, torch.Tensor]]):
    """Fixed random token rows."""

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        ids = torch.randint(0, 60, (12,), generator=generator)
        return {"input_ids": ids, "labels": ids.clone()}


def masking(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate as masked language modelling does: positions are drawn from the global generator."""
    ids = torch.stack([row["input_ids"] for row in rows])
    labels = ids.clone()
    drawn = torch.rand(ids.shape) < 0.3
    return {"input_ids": ids.masked_fill(drawn, 60), "labels": labels}


class Slow(TrainerCallback):
    """Gives signals a place to arrive, and says where the training is."""

    def __init__(self, marks: Path, seconds: float) -> None:
        self._marks, self._seconds = marks, seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Leave a mark."""
        (self._marks / f"r{args.process_index}").write_text(str(state.global_step))
        time.sleep(self._seconds)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--save-steps", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--masking", action="store_true")
    parser.add_argument("--resume", default="")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    arguments = TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        save_steps=options.save_steps,
        logging_steps=10_000,
        dataloader_num_workers=options.workers,
        enable_jit_checkpoint=options.jit,
        use_cpu=True,
        ddp_backend="gloo" if "WORLD_SIZE" in os.environ else None,
        report_to=[],
        seed=1,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=GPT2LMHeadModel(config),
        args=arguments,
        train_dataset=Rows(),
        data_collator=masking if options.masking else None,
        callbacks=[Slow(options.out, options.seconds)],
    )
    trainer.train(resume_from_checkpoint=options.resume or None)
    if arguments.process_index == 0:
        whole = hashlib.sha256()
        for name, tensor in sorted(trainer.model.state_dict().items()):
            whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
        print("digest", whole.hexdigest(), flush=True)


if __name__ == "__main__":
    main()

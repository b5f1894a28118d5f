"""What somebody probably meant by a word that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# Words of other tools for what we call otherwise.
SYNONYMS = {
    "batch_size": "global_batch",
    "bs": "global_batch",
    "train_batch_size": "global_batch",
    "per_device_train_batch_size": "micro_batch",
    "gradient_accumulation_steps": "micro_batch",
    "learning_rate": "lr",
    "max_steps": "steps",
    "num_steps": "steps",
    "num_train_epochs": "steps",
    "epochs": "steps",
    "warmup": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "scheduler": "schedule",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "eval_every": "evaluate_every_steps",
    "eval_steps": "evaluate_every_steps",
    "max_seq_length": "max_length",
    "r": "rank",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "dtype": "precision",
    "gpus": "gpus_per_rank",
    "mem": "memory_gb",
    "memory": "memory_gb",
    "time": "time_limit_minutes",
    "time_limit": "time_limit_minutes",
    "walltime": "time_limit_minutes",
    "save_steps": "every_steps",
    "seed": "seeds",
    "zero": "zero_stage",
    "world_size": "ranks",
    "num_heads": "n_head",
    "num_layers": "n_layer",
    "model_name_or_path": "path",
}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a fix for an unknown word: the likely one, or all that there are."""
    names = sorted(known)
    synonym = SYNONYMS.get(word.lower())
    if synonym in names:
        return f"did you mean `{synonym}`?"
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(names)}" if names else "remove it"

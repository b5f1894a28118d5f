"""A job's weights as others load them: a peft adapter, or a whole transformers model.

    python -P -m worker.export --job DIR --to DIR [--weights result|last]
                               [--checkpoint NAME] [--merge]

What was written is loaded again by peft or transformers alone, and its logits are compared with
those of the model that the job trained, before the directory gets its name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from checkpoints.errors import BrokenCheckpoint
from checkpoints.store import CheckpointStore
from durable.files import fsync_dir
from jobs.contract.paths import JobDir, StateDir
from jobs.contract.records import (
    EpochRecord,
    ResultRecord,
    TasksRecord,
    WorkerSite,
    read_record,
)
from jobs.spec import JobSpec, Semantic, semantic_digest
from worker.code_snapshot import code_of
from worker.data import build_tokenizer, class_labels
from worker.failures import Misconfigured
from worker.forms import FORMS
from worker.methods import apply_method
from worker.models import OPTIONS, auto_class, load_model
from worker.snapshot import decode_tensors, mapping_digest
from worker.snapshot.files import MODEL, rank_path
from worker.sources import model_source
from worker.tasks import load_task

BASE = "base"  # the frozen model of an adapter, where nobody else has it
OWN_MODULES = frozenset({"adapter", "parallel_adapter", "compacter", "apet"})
Tensors = Mapping[str, torch.Tensor]


class ExportImpossible(Exception):
    """What was asked for cannot be exported; the message says why and what can be."""


def trained_tensors(job: JobDir, spec: JobSpec, *, weights: str, name: str | None) -> Tensors:
    """Return the trained tensors by name, each compared with its digest.

    Raises `ExportImpossible`, `BrokenCheckpoint`.
    """
    result = read_record(job.result, ResultRecord)
    if weights == "result" and name is None:
        if result is None:
            raise ExportImpossible("the job has no result yet: --weights last exports a checkpoint")
        if job.weights.exists():
            return _as_tested(decode_tensors(job.weights.read_bytes(), str(job.weights)), result)
    tensors = _of_checkpoint(job, spec, name)
    if weights == "result" and result is not None and name is None:
        try:
            return _as_tested(tensors, result)
        except ExportImpossible as error:
            raise ExportImpossible(
                "the tested weights are not those of the newest checkpoint (an earlier step was"
                " the best) and were not kept: --weights last exports the newest"
            ) from error
    return tensors


def _as_tested(tensors: Tensors, result: ResultRecord) -> Tensors:
    if mapping_digest(tensors) != result.weights_digest:
        raise ExportImpossible("the weights are not those that the result was computed with")
    return tensors


def _of_checkpoint(job: JobDir, spec: JobSpec, name: str | None) -> Tensors:
    store = CheckpointStore(
        job.checkpoints, job=spec.id, spec_digest=semantic_digest(spec.semantic)
    )
    candidates = store.candidates()
    if not candidates or (name is not None and name not in candidates):
        raise ExportImpossible(f"there is no checkpoint {name or ''}; there are: {candidates}")
    opened = store.open(name or candidates[0])
    path = rank_path(0, MODEL)
    if path not in {entry.path for entry in opened.manifest.files}:
        raise ExportImpossible(
            f"{opened.name} is partitioned (ZeRO 3): export the result's weights instead"
        )
    return decode_tensors(opened.read(path), path)


def _training(spec: JobSpec) -> Semantic:
    if not isinstance(spec.semantic, Semantic):
        raise ExportImpossible(f"{spec.name} is a command: it exports what it likes by itself")
    return spec.semantic


def build(job: JobDir, spec: JobSpec, site: WorkerSite) -> tuple[Any, Any, list[str]]:
    """Return the model as it is before training, the tokenizer, and some texts of the task."""
    semantic, base_dir = _training(spec), spec.run.base_dir
    task = load_task(
        semantic.task,
        base_dir=base_dir,
        data_root=site.data_root,
        code=code_of(job, semantic.code_digest),
    )
    train = task.splits["train"]
    tokenizer = build_tokenizer(semantic, task, spec.run, site)
    classes = len(class_labels(semantic, task)) if FORMS[semantic.model.family].classes else 0
    model = load_model(
        semantic.model,
        source=model_source(semantic.model, base_dir=base_dir, models_root=site.models_root),
        tokenizer=tokenizer,
        max_length=semantic.task.max_length,
        classes=classes,
    )
    model = apply_method(model, semantic.method, seed=semantic.seed)
    return (
        model.eval(),
        tokenizer,
        [row["input"] for row in train.select(range(min(4, len(train))))],
    )


def put_in(model: Any, tensors: Tensors) -> None:
    """Write the trained tensors into the model. Raises `ExportImpossible` unless all fit."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if set(parameters) != set(tensors):
        odd = sorted(set(parameters) ^ set(tensors))[0]
        raise ExportImpossible(f"the weights are not this model's: {odd} is on one side only")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def write(model: Any, tokenizer: Any, to: Path, *, merge: bool, own_base: bool) -> None:
    """Write what others load below `to`: an adapter with its base, or a whole model."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(to, safe_serialization=True)
    elif merge and not can_merge(model):
        raise ExportImpossible(
            "what was trained stands before the input and cannot be merged into the model:"
            " leave --merge out"
        )
    elif merge:
        model.merge_and_unload().save_pretrained(to, safe_serialization=True)
    else:
        if own_base:
            for config in model.peft_config.values():
                config.base_model_name_or_path = BASE
        model.save_pretrained(to, safe_serialization=True)
    tokenizer.save_pretrained(to)


def reloaded(to: Path, *, family: str, adapter: bool, base: Any) -> Any:
    """Load `to` with peft or transformers alone."""
    if not adapter:
        return auto_class(family).from_pretrained(to, **OPTIONS).eval()
    from peft import PeftModel

    return PeftModel.from_pretrained(base, to).eval()


def export(job: JobDir, to: Path, *, weights: str, name: str | None, merge: bool) -> float:
    """Export a job's weights into the new directory `to`; return the logits' largest difference.

    Raises `ExportImpossible`, `Misconfigured`, `BrokenCheckpoint`.
    """
    if to.exists():
        raise ExportImpossible(f"{to} exists already")
    spec = JobSpec.model_validate_json(job.spec.read_bytes())
    method = _training(spec).method.name
    if method in OWN_MODULES:
        raise ExportImpossible(
            f"method {method} puts modules of its own into the model, which neither peft nor"
            f" transformers can load; the trained tensors are in {job.weights}"
        )
    site = _site_of(job)
    tensors = trained_tensors(job, spec, weights=weights, name=name)
    model, tokenizer, texts = build(job, spec, site)
    put_in(model, tensors)
    adapter = hasattr(model, "peft_config") and not merge
    # A tokenizer of its own may have given the base rows that its published copy lacks.
    model_spec = _training(spec).model
    own_base = model_spec.path is None or model_spec.tokenizer.path is not None
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as folder:
        made = Path(folder) / "export"
        base = None
        if adapter:
            base, _, _ = _plain(job, spec, site)
            if own_base:
                base.save_pretrained(made / BASE, safe_serialization=True)
        before = [_logits(model, tokenizer, text) for text in texts]
        write(model, tokenizer, made, merge=merge, own_base=own_base)
        again = reloaded(made, family=model_spec.family, adapter=adapter, base=base)
        difference = max(
            float((_logits(again, tokenizer, text) - logits).abs().max())
            for text, logits in zip(texts, before, strict=True)
        )
        # Merging adds the adapter into the weights: the sums round differently.
        if difference > (1e-3 if merge else 0.0):
            raise ExportImpossible(f"what was written gives other logits (by {difference:g})")
        made.rename(to)
        fsync_dir(to.parent)
    return difference


def _plain(job: JobDir, spec: JobSpec, site: WorkerSite) -> tuple[Any, Any, list[str]]:
    """Return the frozen base model, without adapter."""
    model, tokenizer, texts = build(job, spec, site)
    base = model.unload() if can_merge(model) else model.get_base_model()
    return base, tokenizer, texts


def can_merge(model: Any) -> bool:
    """Tell whether an adapter lies in the layers; a prompt or prefix stands before the input."""
    return not any(config.is_prompt_learning for config in model.peft_config.values())


def _logits(model: Any, tokenizer: Any, text: str) -> torch.Tensor:
    ids = tokenizer(text, return_tensors="pt").input_ids
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits: torch.Tensor = model(ids, **more).logits
    return logits


def _site_of(job: JobDir) -> WorkerSite:
    """Return the site that the job's newest submission named: where models and data lie."""
    state = StateDir(job.path.parent.parent)
    claims = sorted(job.epochs.glob("[0-9]*.json"), reverse=True)
    claim = read_record(claims[0], EpochRecord) if claims else None
    tasks = read_record(state.submission(claim.token).tasks, TasksRecord) if claim else None
    return tasks.site if tasks else WorkerSite()


def main(arguments: Sequence[str] | None = None) -> int:
    """Export; print one JSON line. Exit code 1 with one line on stderr when that is impossible."""
    parser = argparse.ArgumentParser(prog="python -P -m worker.export")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--weights", choices=("result", "last"), default="result")
    parser.add_argument("--checkpoint")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args(arguments)
    try:
        difference = export(
            JobDir(options.job.absolute()),
            options.to,
            weights=options.weights,
            name=options.checkpoint,
            merge=options.merge,
        )
    except (ExportImpossible, Misconfigured, BrokenCheckpoint, OSError) as error:
        print(f"orch checkpoints export: {error}", file=sys.stderr)  # noqa: T201
        return 1
    said = {"exported": str(options.to), "largest_logit_difference": difference}
    print(json.dumps(said))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())

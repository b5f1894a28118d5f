"""From a spec to a session: data, tokenizer, model, method, engine, and the parts around them."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

import torch

from checkpoints.manifest import Base
from checkpoints.store import CheckpointStore
from durable.faults import hit
from jobs.geometry import BatchGeometry, batch_geometry
from jobs.sources import hub_snapshot
from jobs.spec import Semantic, semantic_digest, virtual_tokens
from worker.agreement import StopAgreement
from worker.attempt import Attempt
from worker.background import BackgroundSaves
from worker.channel import Channel
from worker.code_snapshot import code_of
from worker.committer import Committer
from worker.data import Data, build_data
from worker.engine import build_engine
from worker.failures import Misconfigured
from worker.forms import smoothed
from worker.machine import environment, prepare_machine, seed_everything
from worker.methods import apply_method
from worker.metrics import Curve
from worker.models import load_model
from worker.preemption import Preemption
from worker.progress import Progress
from worker.rendezvous import bound_collectives, connect
from worker.scratch import make_checkpoint_directory
from worker.session import Session
from worker.snapshot import HostMemory, base_digest
from worker.sources import model_source
from worker.standing import Standing
from worker.store_client import BoundedStore
from worker.token_cache import TokenCache, token_directory

# Ranks read and build at different speeds; only when training has begun is silence suspicious.
START_PATIENCE = 5
# Their disks are not equally quick; nobody stands still for a save behind the training.
WRITE_PATIENCE = 2
log = logging.getLogger("orch")


def build_session(attempt: Attempt, *, progress: Progress, preemption: Preemption) -> Session:
    """Build everything up to the first step. All ranks together.

    Raises `Misconfigured` for what no retry can help, `PeerLost` when a rank does not come.
    """
    spec, semantic = attempt.spec, attempt.training
    threads = semantic.engine.threads_per_rank
    device = prepare_machine(
        threads=threads,
        local_rank=attempt.layout.local_rank,
        gpus_per_rank=spec.run.resources.gpus_per_rank,
    )
    # Before the ranks meet: what is misconfigured, every rank finds out by itself.
    geometry = _geometry(attempt)
    tokenizer, data = _data(attempt)
    model, base = build_model(attempt, tokenizer, classes=data.classes)
    normalised = not data.form.mean_loss and takes_num_items(model)
    hit("build.before_rendezvous")
    channel = _meet(attempt, progress, device)
    model = apply_method(model, semantic.method, seed=semantic.seed)
    base = base.model_copy(update={"digest": base_digest(model)})
    seed_everything(semantic.seed, attempt.layout.rank)
    engine = build_engine(model.to(device), semantic, attempt.claim.overrides, device=device)
    if semantic.train.label_smoothing:
        engine.criterion = smoothed(data.form, semantic.train.label_smoothing)
    bound_collectives(attempt.rank_timeout)
    if attempt.layout.rank == 0:
        purged = make_checkpoint_directory(attempt.job, attempt.assignment.site.scratch_root)
        if purged is not None:
            progress.report(purged)
    store = CheckpointStore(
        attempt.job.checkpoints, job=spec.id, spec_digest=semantic_digest(semantic)
    )
    curve = Curve(attempt.directory.metrics)
    committer = Committer(
        attempt=attempt, store=store, channel=channel, curve=curve, say=progress.report
    )
    return Session(
        attempt=attempt,
        engine=engine,
        data=data,
        store=store,
        committer=committer,
        background=_background(attempt, committer, store, channel, device=device),
        channel=channel,
        agreement=StopAgreement(channel),
        preemption=preemption,
        progress=progress,
        curve=curve,
        standing=_first_standing(data, geometry, semantic),
        environment=environment(device, threads=threads, packages=attempt.claim.packages),
        base=base,
        normalised_loss=normalised,
    )


def _data(attempt: Attempt) -> tuple[Any, Data]:
    return build_data(
        attempt.training,
        attempt.spec.run,
        attempt.assignment.site,
        code=code_of(attempt.job, attempt.training.code_digest),
        cache=TokenCache(token_directory(attempt.job)),
        keeps=attempt.layout.rank == 0,
    )


def _background(
    attempt: Attempt,
    committer: Committer,
    store: CheckpointStore,
    channel: Channel,
    *,
    device: torch.device,
) -> BackgroundSaves:
    keep = attempt.spec.run.save.background
    patience = attempt.rank_timeout * WRITE_PATIENCE
    return BackgroundSaves(
        attempt=attempt,
        store=store,
        channel=channel.sibling("background", timeout_seconds=patience),
        beside=committer,
        memory=HostMemory(keep=keep, pinned=keep and device.type == "cuda"),
    )


def build_model(attempt: Attempt, tokenizer: Any, *, classes: int) -> tuple[Any, Base]:
    """Return the base model and its identity, still without digest."""
    spec, site = attempt.spec, attempt.assignment.site
    semantic = attempt.training
    model = semantic.model
    source = model_source(model, base_dir=spec.run.base_dir, models_root=site.models_root)
    built = load_model(
        model,
        source=source,
        tokenizer=tokenizer,
        max_length=semantic.task.max_length + virtual_tokens(semantic.method),
        classes=classes,
    )
    # The digest says which weights; this says to people where they came from.
    name = model.path or f"config:{built.config.model_type}:{model.init_seed}"
    return built, Base(source=name, revision=_commit(source, model.revision))


def _commit(source: Path | str | None, revision: str | None) -> str | None:
    """Return the commit of a hub's model, which a name such as `main` stands for."""
    snapshot = hub_snapshot(source, revision) if isinstance(source, str) else None
    return snapshot.name if snapshot is not None else revision


def takes_num_items(model: torch.nn.Module) -> bool:
    """Tell whether the model's loss can be divided by a given number of tokens."""
    parameters = inspect.signature(model.forward).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _geometry(attempt: Attempt) -> BatchGeometry:
    semantic, layout = attempt.training, attempt.layout
    ranks = attempt.assignment.ranks
    if layout.world_size != ranks:
        raise Misconfigured(
            f"{ranks} ranks are wanted (engine.ranks), but {layout.world_size} were started:"
            " start the ranks through orch, or with srun --ntasks"
        )
    try:
        return batch_geometry(semantic, attempt.claim.overrides)
    except ValueError as error:
        raise Misconfigured(str(error)) from error


def _first_standing(data: Data, geometry: BatchGeometry, semantic: Semantic) -> Standing:
    standing = Standing(
        data_digest=data.digest,
        vocabulary_digest=data.vocabulary_digest,
        micro_batch=geometry.micro_batch,
    )
    if geometry.micro_batch != semantic.micro_batch:
        standing.add_reasons(
            [f"micro_batch {geometry.micro_batch} instead of {semantic.micro_batch}"]
        )
    if geometry.ranks != semantic.engine.ranks:
        standing.add_reasons([f"{geometry.ranks} ranks instead of {semantic.engine.ranks}"])
    return standing


def _meet(attempt: Attempt, progress: Progress, device: torch.device) -> Channel:
    """Wait until all ranks are here, patiently: from here on silence is bounded tightly."""
    layout, patience = attempt.layout, attempt.rank_timeout * START_PATIENCE
    store = connect(
        layout,
        attempt.directory.rendezvous,
        timeout_seconds=attempt.rank_timeout,
        start_patience=START_PATIENCE,
        interface=attempt.assignment.site.interface,
        backend="nccl" if device.type == "cuda" else "gloo",
    )
    channel = Channel(
        BoundedStore(store, timeout_seconds=attempt.rank_timeout),
        rank=layout.rank,
        world_size=layout.world_size,
        timeout_seconds=attempt.rank_timeout,
        beat=progress.beat,
    )
    ticket = channel.ticket("meet")
    channel.collect(ticket, attempt.epoch, timeout_seconds=patience)
    channel.tell(ticket, value=True, timeout_seconds=patience)
    log.info("%d ranks, epoch %d", channel.world_size, attempt.epoch)
    if layout.rank == 0:
        attempt.directory.rendezvous.unlink(missing_ok=True)  # all have read it
    return channel

"""Everything a rank holds while it trains, put together once and handed around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from checkpoints.manifest import Base, Environment
from checkpoints.store import CheckpointStore
from jobs.contract.records import Notice
from jobs.spec import Semantic
from worker.agreement import StopAgreement
from worker.attempt import Attempt
from worker.background import BackgroundSaves
from worker.channel import Channel
from worker.collate import Sample, labelled_tokens
from worker.committer import Committer
from worker.data import Data
from worker.engine import LOSS_SHARE, LOSS_WEIGHT, Engine
from worker.kept_scores import KeptScores, evaluation_key
from worker.metrics import Curve
from worker.preemption import Preemption
from worker.progress import Progress
from worker.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One rank of one attempt."""

    attempt: Attempt
    engine: Engine
    data: Data
    store: CheckpointStore
    committer: Committer  # of saves that the training waits for
    background: BackgroundSaves
    channel: Channel
    agreement: StopAgreement
    preemption: Preemption
    progress: Progress
    curve: Curve
    standing: Standing
    environment: Environment
    base: Base
    normalised_loss: bool  # the model takes the number of tokens to divide by

    @property
    def semantic(self) -> Semantic:
        """What the job is."""
        return self.attempt.training

    @property
    def steps(self) -> int:
        """Steps of the whole job."""
        return self.semantic.train.steps

    @property
    def eval_batch(self) -> int:
        """Sequences of a forward pass of an evaluation."""
        return self.semantic.train.eval_batch or self.engine.geometry.micro_batch

    def notice(self) -> Notice | None:
        """Return this rank's notice, and let people see it."""
        notice = self.preemption.notice()
        if notice is not None and self.progress.record.notice is None:
            self.progress.notice(notice)
        return notice

    def noticed(self) -> bool:
        """Publish this rank's notice, if it has one; tell whether any rank is to stop."""
        return self.agreement.announce(self.standing.step, self.notice()) is not None

    def kept_scores(self, split: str, *, weights: str) -> KeptScores:
        """Return the durable scores of a split under the weights of this digest."""
        data = self.data
        return KeptScores(
            self.attempt.job,
            epoch=self.attempt.epoch,
            rank=self.channel.rank,
            name=split,
            key=evaluation_key(
                split=split,
                weights=weights,
                base=self.base.digest,
                data=data.digest,  # how texts are generated is a part of it
                vocabulary=data.vocabulary_digest,
                batch=self.eval_batch,
            ),
        )

    def batches(self, step: int) -> list[dict[str, torch.Tensor]]:
        """Return this rank's micro-batches of a step (from 1)."""
        geometry, channel = self.engine.geometry, self.channel
        order, train = self.data.order, self.data.train
        # Every answer token of the global batch weighs the same, however it is cut: the
        # engine averages over micro-steps and ranks, so each divides by its mean share.
        tokens = labelled_tokens([train[i] for i in order.global_samples(step)])
        share = tokens / (geometry.accumulation * geometry.ranks)
        micro_batches = (
            order.micro_batch(
                step,
                rank=channel.rank,
                world_size=channel.world_size,
                micro=micro,
                size=geometry.micro_batch,
            )
            for micro in range(geometry.accumulation)
        )
        return [self._batch([train[i] for i in indices], share) for indices in micro_batches]

    def _batch(self, samples: Sequence[Sample], share: float) -> dict[str, torch.Tensor]:
        batch = self.data.form.collate(samples, self.data.pad_id)
        if self.engine.criterion is not None:
            batch[LOSS_SHARE] = torch.tensor(share)
        elif self.normalised_loss:
            batch["num_items_in_batch"] = torch.tensor(share)
        elif self.data.form.mean_loss:
            batch[LOSS_WEIGHT] = torch.tensor(labelled_tokens(samples) / share)
        return batch

"""One rank, from its command line to its exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from checkpoints.errors import Fenced
from durable.faults import hit
from jobs.contract.exit_codes import ExitCode
from jobs.contract.records import Notice, Outcome
from jobs.spec import CommandSemantic
from worker import early_signals
from worker.attempt import Assignment, Attempt, rank_timeout, read_assignment, valid_result
from worker.claim import NoClaim, check_fence, claim, find_claim
from worker.deadline import learned_grace, learned_words
from worker.exits import write_exit
from worker.failures import KilledOutright, Misconfigured, classify, error_record
from worker.folding import fold_older
from worker.layout import BadLayout, read_layout
from worker.logs import start_logging
from worker.orphans import leave_with_launcher
from worker.packages import check_strict, own_packages, packages_of
from worker.preemption import Preemption, allocation_end
from worker.progress import Progress
from worker.publication import withdraw_older
from worker.witness import Witness, lived_after_notice

log = logging.getLogger("orch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """What a claimed rank has before anything heavy is imported."""

    attempt: Attempt
    progress: Progress
    preemption: Preemption
    witness: Witness


# Libraries must not look beyond this machine: models come from models_root or the hub's cache.
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def run_rank(argv: Sequence[str]) -> int:
    """Run the rank that the environment describes; return its exit code.

    What job, is it finished, which epoch: all that is settled before torch is imported.
    """
    early_signals.install()
    for name in OFFLINE:  # read while they are imported, which comes later
        os.environ.setdefault(name, "1")
    arguments = _arguments(argv)
    try:
        layout = read_layout(os.environ, index=arguments.index)
        assignment = read_assignment(arguments.submission, layout)
        if assignment.site.hub_cache:  # read when the libraries are imported
            os.environ["HF_HUB_CACHE"] = assignment.site.hub_cache
        if valid_result(assignment.job, assignment.spec) is not None:
            return ExitCode.RESULT
        if assignment.dropped:
            return ExitCode.AGAIN  # whoever started the cell puts on record that it is over
        leave_with_launcher(os.environ)
        attempt = _claim(assignment)
        # An older epoch may have published until its files were taken away, never after.
        if valid_result(assignment.job, assignment.spec) is not None:
            return ExitCode.RESULT
    except (Misconfigured, BadLayout) as error:
        print(f"orch worker: {error}", file=sys.stderr)  # noqa: T201 - no log file exists yet
        return ExitCode.CONFIGURATION
    except NoClaim as error:
        print(f"orch worker: {error}", file=sys.stderr)  # noqa: T201
        return ExitCode.AGAIN
    return _run(_begin(attempt))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m worker", description=__doc__)
    parser.add_argument("--submission", type=Path, required=True, help="submissions/<token>")
    parser.add_argument("--index", type=int, help="index into tasks.json (default: environment)")
    return parser.parse_args(argv)


def _claim(assignment: Assignment) -> Attempt:
    """Claim the next epoch (rank 0) or find this launch's claim (the others)."""
    timeout = rank_timeout(assignment.site)
    wanted = assignment.claim_wanted(time.time())
    if assignment.layout.rank == 0:
        wanted = wanted.model_copy(update={"packages": _packages(assignment)})
        record = claim(assignment.job, wanted)
        try:
            withdraw_older(assignment.job, record.epoch)
        except OSError as error:
            raise NoClaim(f"an older epoch could still publish: {error}") from error
    else:
        record = find_claim(assignment.job, wanted, timeout_seconds=timeout)
    return Attempt(assignment=assignment, claim=record, rank_timeout=timeout)


def _packages(assignment: Assignment) -> str | None:
    """Return the lock digest of what the job will import."""
    semantic = assignment.spec.semantic
    if not isinstance(semantic, CommandSemantic):
        return own_packages()
    from worker.command.surroundings import program_of

    return packages_of(program_of(semantic))


def _begin(attempt: Attempt) -> Rank:
    """Open the log, the heartbeat and the ear for notices."""
    rank, run = attempt.layout.rank, attempt.spec.run
    witness = Witness(attempt.directory.noticed)
    lived = lived_after_notice(attempt.job, before_epoch=attempt.epoch)
    learned = learned_grace(lived, configured=run.grace_seconds)

    def on_notice(notice: Notice, at: float) -> None:
        if rank == 0:
            witness.begin(epoch=attempt.epoch, cause=notice.cause, noticed_at=at)

    preemption = Preemption(
        epoch=attempt.epoch,
        grace_seconds=run.grace_seconds,
        learned_grace=learned,
        on_notice=on_notice,
        limit_at=allocation_end(run, os.environ, started_at=attempt.claim.started_at),
        control=attempt.job.control if rank == 0 else None,
    )

    def account() -> None:
        preemption.flag()
        notice = preemption.notice()
        write_exit(
            attempt,
            outcome=Outcome.NO_PROGRESS,
            exit_code=ExitCode.AGAIN,
            cause=notice.cause if notice else None,
            noticed_at=preemption.noticed_at,
        )
        witness.end()

    early_signals.account_with(account)
    progress = Progress(
        attempt.directory,
        epoch=attempt.epoch,
        total_steps=attempt.spec.semantic.total_steps,
        rank=rank,
    )
    progress.stopwatch.listen()
    start_logging(
        attempt.directory.log(rank),
        rank=rank,
        masked_words=attempt.assignment.site.masked_words,
    )
    log.info("%s: epoch %d of job %s", attempt.spec.name, attempt.epoch, attempt.spec.id)
    if rank == 0:
        ranks = attempt.layout.world_size
        fold_older(attempt.job, attempt.epoch, ranks=ranks, finished=False)
    if learned is not None:
        line = learned_words(lived, learned=learned, configured=run.grace_seconds)
        log.warning("%s", line)
        progress.report(line)
    return Rank(attempt=attempt, progress=progress, preemption=preemption, witness=witness)


def _run(rank: Rank) -> int:
    """Train to the result or to a stop; put on record how it ended."""
    outcome, code, problem = Outcome.COMPLETED, ExitCode.RESULT, None
    try:
        hit("main.before_imports")
        if rank.attempt.spec.run.packages == "strict":
            check_strict(rank.attempt.job, rank.attempt.claim)
        if isinstance(rank.attempt.spec.semantic, CommandSemantic):
            from worker.command.runner import run_command as work
        else:
            from worker.training import run_training as work  # 8 s of imports
        work(rank.attempt, progress=rank.progress, preemption=rank.preemption)
    except KilledOutright as error:
        log.warning("%s", error)
        rank.progress.last()
        return 128 + signal.SIGKILL  # as if we had been: whoever killed it says why
    except BaseException as error:  # noqa: BLE001 - whatever it is, the record must say it
        error = _or_fenced(rank.attempt, error)
        outcome, code = classify(error, world_size=rank.attempt.layout.world_size)
        if outcome not in (Outcome.SAVED, Outcome.NO_PROGRESS):
            problem = error_record(error)
            log.warning("%s: %s: %s", outcome, type(error).__name__, error)
            logging.getLogger("traceback").error("%s", problem.traceback)
    rank.progress.last()
    position, notice = rank.progress.record, rank.preemption.known
    if notice is None:  # another rank's notice ended us
        notice = position.notice
    write_exit(
        rank.attempt,
        outcome=outcome,
        exit_code=code,
        last_step=position.step,
        committed_step=position.committed_step,
        cause=notice.cause if notice and outcome is not Outcome.COMPLETED else None,
        error=problem,
        noticed_at=rank.preemption.noticed_at,
        spent=rank.progress.spent(),
    )
    rank.witness.end()
    log.info("leaving with %d (%s)", code, outcome)
    return code


def _or_fenced(attempt: Attempt, error: BaseException) -> BaseException:
    """Return why the attempt is over. Who no longer holds the job must not ask to be run again.

    A copy that lost a peer or got a notice would leave with 75, and the requeue of its task would
    end the copy that holds the job.
    """
    if classify(error, world_size=attempt.layout.world_size)[1] is not ExitCode.AGAIN:
        return error
    try:
        check_fence(attempt.job, attempt.epoch)
    except Fenced as fenced:
        fenced.__cause__ = error
        return fenced
    except OSError:  # ignorance: the batch script asks once more
        return error
    return error

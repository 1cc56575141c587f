"""A campaign from its first round to its last, over any Flower Grid.

The same function runs under SuperLink and under Flower's simulation engine. All its state is
on disk: kill it at any point, call it again, and it goes on from the last released round.
"""

import fcntl
import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
from cryptography import x509
from flwr.serverapp import Grid
from numpy.typing import NDArray

from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import BudgetExceededError, LedgerError
from tacitly_common.mechanisms.encodings import decode_mean
from tacitly_common.validation import positive
from tacitly_common.wire.messages import Task
from tacitly_server.aggregation.checks import Refusal
from tacitly_server.home import CampaignDirectory
from tacitly_server.ledger.population import AttemptKey, AttemptState, PopulationLedger
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.answers import Answers
from tacitly_server.rounds.checkpoint import Checkpoint, save_checkpoint
from tacitly_server.rounds.clock import Clock, SystemClock
from tacitly_server.rounds.collection import collect, dispatch
from tacitly_server.rounds.masked import MaskedRound, collect_masked
from tacitly_server.rounds.permit import Ending, Permit, Permits
from tacitly_server.rounds.receipts import Loss, Outcome, Receipt, append_receipt, model_sha256
from tacitly_server.rounds.recovery import recover
from tacitly_server.rounds.selection import Enrolled, select

_LOG: Final = logging.getLogger(__name__)
# How long a pause goes on after an officer has stopped the campaign.
_WATCH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait before trying again, so that nothing spins.

    `pause_seconds` after a selection that found too few, and after the `lost_in_a_row`-th lost
    attempt; each further lost attempt doubles it, up to `max_pause_seconds`: every attempt
    costs those selected, whether it succeeds or not.
    """

    pause_seconds: float = 5.0
    lost_in_a_row: int = 2
    max_pause_seconds: float = 3_600.0

    def __post_init__(self) -> None:
        positive(
            pause_seconds=self.pause_seconds,
            lost_in_a_row=self.lost_in_a_row,
            max_pause_seconds=self.max_pause_seconds,
        )

    def after_lost(self, in_a_row: int) -> float:
        """Seconds to wait after this many lost attempts in a row."""
        if in_a_row < self.lost_in_a_row:
            return 0.0
        doublings = min(in_a_row - self.lost_in_a_row, 32)
        return float(min(self.pause_seconds * 2**doublings, self.max_pause_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a campaign runs on. `enrolled` gives every enrolled node and its subject.

    `permits` is asked before anybody is charged, and again while anything is waited for.
    `authority` is whose certificates devices show each other where the plan masks. Without one no
    device takes part in such a plan: only the simulation's have no keys, and answer unmasked.
    `on_round` is called with each receipt after it is published, `on_release` with the newest
    released checkpoint: after each release, and at the start, for what a crash may have left out.
    """

    grid: Grid
    plan: CampaignPlan
    directory: CampaignDirectory
    ledger: PopulationLedger
    enrolled: Enrolled
    permits: Permits
    on_round: Callable[[Receipt], None] = lambda _receipt: None
    on_release: Callable[[Checkpoint], None] = lambda _checkpoint: None
    clock: Clock = field(default_factory=SystemClock)
    rng: random.Random = field(default_factory=random.SystemRandom)
    patience: Patience = Patience()
    authority: x509.Certificate | None = None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def run_campaign(campaign: Campaign) -> Ending:
    """Run, or go on with, a campaign until it is over.

    1. Recover what an earlier process left (`recovery.py`). Attempts it lost at this round count
       on: a process that keeps dying must not spend everybody's budget at full speed.
    2. Stop if all rounds are released, or as many attempts in a row are lost as the plan allows.
    3. Pause, if there is a reason to. Stop if there is no permit for the round, or if those who
       can still pay are fewer than the minimum cohort although enough are enrolled.
    4. Select. Too few online: pause and go to 3; nothing was charged.
    5. With a permit of this moment, reserve an attempt number and charge all selected, or void
       it, pause and go to 3.
    6. Dispatch, collect, and release or lose the attempt (`run_attempt`). After lost attempts
       in a row, pause ever longer. Go to 2.

    Raises:
        LedgerError: also if another process runs this campaign.
        CheckpointError, ReceiptError: what is on disk is damaged, or the disk is full.
    """
    plan, ledger, patience = campaign.plan, campaign.ledger, campaign.patience
    with _only_process(campaign.directory):
        current = recover(campaign.directory, plan, ledger)
        if current.round:
            campaign.on_release(current)
        lost = _lost_attempts(ledger, plan.hash, current.round + 1)
        pause = patience.after_lost(lost)
        while current.round < plan.rounds:
            number = current.round + 1
            if lost >= plan.stop.lost_in_a_row:
                return Ending.LOST_IN_A_ROW
            _pause(campaign, number, pause)
            pause = patience.pause_seconds
            permit = campaign.permits(number)
            if isinstance(permit, Ending):
                return permit
            exhausted = _exhausted(campaign, permit.caps)
            if _too_few_can_pay(campaign, exhausted):
                return Ending.BUDGET_EXHAUSTED
            cohort = _select(campaign, number, exhausted)
            if cohort is None:
                _LOG.info("too few devices to ask are online for round %d: waiting", number)
                continue
            # Selection may have taken long: what was permitted then may not be now.
            permit = campaign.permits(number)
            if isinstance(permit, Ending):
                return permit
            key = _charge(campaign, permit.caps, number, cohort)
            if key is None:
                continue
            released = run_attempt(campaign, current, key, cohort, permit.grant)
            if released is None:
                lost += 1
            else:
                current, lost = released, 0
            pause = patience.after_lost(lost)
        return Ending.ROUNDS_REACHED


def run_attempt(
    campaign: Campaign, start: Checkpoint, key: AttemptKey, cohort: dict[int, str], grant: bytes
) -> Checkpoint | None:
    """One attempt at a round whose cohort is charged. The new checkpoint, or None if lost.

    1. Collect: a sum of what passes every check (`collection.py`), or, if the plan masks, the sum
       of what groups come to (`masked.py`). All is over at the deadline.
    2. Fewer usable than the minimum, or no permit for the round any more: LOST. The sum is
       dropped, nothing is released.
    3. The mean over the planned cohort moves the model through the server's optimiser.
    4. Checkpoint, durably; then the ledger says RELEASED.
    5. Publish the receipt and the model.
    """
    plan, clock = campaign.plan, campaign.clock
    task = Task(key.plan_hash, key.round, key.attempt, grant)
    began = clock.monotonic()
    answers = _collect(campaign, task, start.model, cohort, began)
    seconds = clock.monotonic() - began
    loss = None if _permitted(campaign, key.round) else Loss.NOT_PERMITTED
    if answers.usable < plan.cohort.minimum:
        loss = loss or Loss.TOO_FEW
    if loss is not None:
        campaign.ledger.mark(key, AttemptState.LOST)
        _publish(campaign, _receipt(plan, key, loss, len(cohort), answers, seconds, None))
        return None
    mean = decode_mean(answers.total, plan, key.round)
    delta, state = optimizer.step(plan.optimizer, start.optimizer, mean)
    model = optimizer.apply(plan.model, start.model, delta)
    receipt = _receipt(plan, key, None, len(cohort), answers, seconds, model_sha256(model))
    checkpoint = Checkpoint(plan.hash, key.round, key.attempt, model, state, receipt)
    save_checkpoint(campaign.directory.checkpoint, checkpoint)
    campaign.ledger.mark(key, AttemptState.RELEASED, result_sha256=receipt.model_sha256)
    _publish(campaign, receipt)
    campaign.on_release(checkpoint)
    return checkpoint


def _collect(
    campaign: Campaign,
    task: Task,
    model: NDArray[np.float32],
    cohort: dict[int, str],
    began: float,
) -> Answers:
    """Step 1 of an attempt."""
    grid, plan, clock = campaign.grid, campaign.plan, campaign.clock

    def permitted() -> bool:
        return _permitted(campaign, task.round)

    if plan.masking is not None and campaign.authority is not None:
        conditions = MaskedRound(
            grid=grid,
            plan=plan,
            task=task,
            authority=campaign.authority,
            clock=clock,
            began=began,
            now=campaign.now(),
            permitted=permitted,
            rng=campaign.rng,
        )
        return collect_masked(conditions, model, cohort)
    asked = dispatch(grid, plan, task, model, cohort)
    until = began + plan.cohort.deadline_seconds
    answers = collect(grid, plan, task, asked, clock=clock, until=until, permitted=permitted)
    if len(asked) < len(cohort):
        answers.refusals[Refusal.UNDELIVERED] += len(cohort) - len(asked)
    return answers


def _lost_attempts(ledger: PopulationLedger, plan_hash: str, round_number: int) -> int:
    """How many attempts at a round were charged in vain so far."""
    attempts = ledger.attempts(plan_hash)
    return sum(a.key.round == round_number and a.state is AttemptState.LOST for a in attempts)


def _permitted(campaign: Campaign, round_number: int) -> bool:
    return isinstance(campaign.permits(round_number), Permit)


def _pause(campaign: Campaign, round_number: int, seconds: float) -> None:
    """Wait, but no longer than there is a permit for the round."""
    until = campaign.clock.monotonic() + seconds
    while (left := until - campaign.clock.monotonic()) > 0 and _permitted(campaign, round_number):
        campaign.clock.sleep(min(left, _WATCH_SECONDS))


def _exhausted(campaign: Campaign, caps: Caps) -> frozenset[str]:
    """Who can take part no more: a budget is spent, or they were asked as often as agreed."""
    plan, ledger = campaign.plan, campaign.ledger
    if plan.cost_nano_rho > min(caps.lifetime_nano_rho, caps.epoch_nano_rho):
        return frozenset(campaign.enrolled().values())
    spent = ledger.exhausted(
        plan.hash, epochs=plan.data_epochs, cost_nano_rho=plan.cost_nano_rho, caps=caps
    )
    return spent | ledger.often_asked(plan.data_epochs, most=plan.participation.per_epoch)


def _too_few_can_pay(campaign: Campaign, exhausted: frozenset[str]) -> bool:
    subjects = set(campaign.enrolled().values())
    return len(subjects - exhausted) < campaign.plan.cohort.minimum <= len(subjects)


def _select(
    campaign: Campaign, round_number: int, exhausted: frozenset[str]
) -> dict[int, str] | None:
    """A cohort of those who can pay and need not rest, or None."""
    plan = campaign.plan
    resting = campaign.ledger.resting(plan.hash, round_number, plan.participation)
    return select(
        campaign.grid,
        plan.cohort,
        campaign.enrolled,
        exhausted | resting,
        clock=campaign.clock,
        rng=campaign.rng,
        permitted=lambda: _permitted(campaign, round_number),
    )


def _charge(
    campaign: Campaign, caps: Caps, round_number: int, cohort: dict[int, str]
) -> AttemptKey | None:
    """A reserved and charged attempt, or None if somebody's budget ran out since selection."""
    plan, ledger = campaign.plan, campaign.ledger
    key = ledger.plan(plan.hash, round_number)
    try:
        charged = ledger.charge(
            key,
            list(cohort.values()),
            epochs=plan.data_epochs,
            cost_nano_rho=plan.cost_nano_rho,
            caps=caps,
        )
    except BudgetExceededError:
        ledger.mark(key, AttemptState.VOID)
        return None
    if not charged:
        raise LedgerError(f"round {key.round} attempt {key.attempt} was charged by another process")
    return key


def _receipt(
    plan: CampaignPlan,
    key: AttemptKey,
    loss: Loss | None,
    selected: int,
    answers: Answers,
    seconds: float,
    model_hash: str | None,
) -> Receipt:
    return Receipt(
        plan_hash=key.plan_hash,
        round=key.round,
        attempt=key.attempt,
        outcome=Outcome.RELEASED if loss is None else Outcome.LOST,
        selected=selected,
        usable=answers.usable,
        refusals={str(refusal): n for refusal, n in sorted(answers.refusals.items())},
        noise_multiplier=plan.subject.noise_multiplier,
        cost_nano_rho=plan.cost_nano_rho,
        model_sha256=model_hash,
        seconds=round(seconds, 3),
        bytes_up=answers.bytes_up,
        bytes_down=answers.bytes_down,
        lost_because=loss,
        phases=answers.phases,
        groups=answers.groups,
        groups_unmasked=answers.groups_unmasked,
    )


def _publish(campaign: Campaign, receipt: Receipt) -> None:
    append_receipt(campaign.directory.receipts, receipt)
    _LOG.info(
        "round %d attempt %d %s: %d of %d usable, %.1f s",
        receipt.round,
        receipt.attempt,
        receipt.outcome,
        receipt.usable,
        receipt.selected,
        receipt.seconds,
    )
    campaign.on_round(receipt)


@contextmanager
def _only_process(directory: CampaignDirectory) -> Iterator[None]:
    """Hold the campaign's directory: two processes on one campaign would release twice."""
    descriptor = os.open(directory.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LedgerError(
            f"{directory.root}: another process runs this campaign; stop it first"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)

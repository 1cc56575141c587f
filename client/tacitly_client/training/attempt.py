"""One attempt at one round on this device: charge, train, release, keep, in that order.

    1. Refuse another plan, one that the person has consented to no more, a round the plan does not
       have, a model that is not the plan's.
    2. An attempt seen before: its kept result again, byte for byte; without one it is LOST.
    3. Windows of the person's events in the plan's data epochs, the held-out part left alone.
       Without any the attempt goes on all the same and ends in noise: a refusal would tell,
       unpaid, that nothing was typed.
    4. CHARGE the device ledger: the attempt, and every step of DP-SGD it will take. Durable before
       the model learns anything from the events.
    5. Train.
    6. Clip, noise, encode; keep the result durably.
    7. Mark RELEASED. Only then may the caller send it.
    8. If the plan has no other attempt for this device: the store may let go of the days that were
       learned from.

A crash after 4 and before 6 leaves an attempt that is paid for and has no result: it never gets
one (step 2), so nothing is noised twice under one charge.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_client.consent import takes_part
from tacitly_client.contract_store import ContractStore
from tacitly_client.home import AgentHome, AgentSettings
from tacitly_client.ledger import AttemptKey, AttemptState, DeviceLedger, RecordSteps
from tacitly_client.limits import OwnLimits, own_limits
from tacitly_client.store import Damage, EventStore, StoreError, mark_trained
from tacitly_client.store.days import bounds_ns
from tacitly_client.training.local import train
from tacitly_client.training.outbox import Outbox
from tacitly_client.training.pipe import Job
from tacitly_client.training.windows import Tokens, split_by_time, windows_of_days
from tacitly_common.accounting.caps import Caps
from tacitly_common.campaign import CampaignPlan, PlanError
from tacitly_common.errors import BudgetExceededError, TooSoonError
from tacitly_common.mechanisms.encodings import release
from tacitly_common.mechanisms.gaussian import secure_generator
from tacitly_common.vocabulary import Vocabulary
from tacitly_common.wire.codes import ReplyCode

Answer = tuple[ReplyCode, bytes]

_FIRST_ROUND: Final = 1


def answer(
    home: AgentHome,
    plan: CampaignPlan,
    settings: AgentSettings,
    job: Job,
    body: bytes,
    *,
    now: datetime,
) -> Answer:
    """The reply code of a job, and the update as little-endian int32 if the code is OK.

    Where the plan masks sums the update is residues below 2^field_bits, as uint32: not to leave the
    device without a mask.

    `body` is the model, little-endian float32; `now` the time the charge is written with, in UTC.

    | code                    | when                                                         |
    |-------------------------|--------------------------------------------------------------|
    | OK                      | the update, new or kept                                      |
    | UNKNOWN_PLAN            | not the plan this device agreed to                           |
    | NOT_JOINED              | consent to it was withdrawn meanwhile                        |
    | ROUND_OUT_OF_RANGE      | not in 1..plan.rounds                                        |
    | WRONG_MODEL             | length, NaN, infinity; in the first round also another start |
    | BUDGET_EXHAUSTED        | the charge would pass a cap; nothing was charged             |
    | RECORD_BUDGET_EXHAUSTED | its steps would pass the record level's cap; the same        |
    | TOO_SOON                | the plan's participation limits do not allow it; the same    |
    | DEVICE_FAULT            | paid for earlier, and lost                                   |

    Raises:
        TacitlyError, OSError: store, ledger, officers' log, training or disk failed. An attempt
            that was charged is LOST then.
    """
    if job.plan_hash != plan.hash:
        return ReplyCode.UNKNOWN_PLAN, b""
    if not takes_part(home, plan.hash):
        return ReplyCode.NOT_JOINED, b""
    if not _FIRST_ROUND <= job.round <= plan.rounds:
        return ReplyCode.ROUND_OUT_OF_RANGE, b""
    model = _model(plan, job, body)
    if model is None:
        return ReplyCode.WRONG_MODEL, b""
    key = AttemptKey(job.plan_hash, job.round, job.attempt)
    outbox = Outbox(home.outbox)
    with (
        _one_at_a_time(home.outbox),
        DeviceLedger.open(home.ledger) as ledger,
    ):
        outbox.drop_other_plans(plan.hash)
        if ledger.state(key) is not None:
            return _seen_before(ledger, outbox, key)
        windows = _windows(home, plan)
        limits = own_limits(settings, ContractStore(home).load().policy)
        refused = _charge(ledger, key, plan, limits, now)
        if refused is not None:
            return refused, b""
        try:
            rng = secure_generator()
            learned = train(plan, model, windows, rng=rng)
            update = release(learned, plan, job.round, rng).astype("<i4").tobytes()
            outbox.write(key, update)
        except Exception:
            ledger.mark(key, AttemptState.LOST)
            raise
        ledger.mark(key, AttemptState.RELEASED)
        if (
            job.round == plan.rounds
            or ledger.attempts(plan.hash) >= plan.participation.per_campaign
        ):
            _let_go(home, plan)
        return ReplyCode.OK, update


def _model(plan: CampaignPlan, job: Job, body: bytes) -> NDArray[np.float32] | None:
    """The model of a job, None if it cannot be the plan's."""
    if len(body) != 4 * plan.model.parameters:
        return None
    if job.round == _FIRST_ROUND and hashlib.sha256(body).hexdigest() != plan.initial_model_hash:
        return None
    model = np.frombuffer(body, dtype="<f4").astype(np.float32)
    return model if np.isfinite(model).all() else None


def _charge(
    ledger: DeviceLedger,
    key: AttemptKey,
    plan: CampaignPlan,
    limits: OwnLimits,
    now: datetime,
) -> ReplyCode | None:
    """Charge the attempt and its steps, or say why not."""
    caps = Caps(
        lifetime_nano_rho=limits.lifetime_nano_rho,
        epoch_nano_rho=limits.epoch_nano_rho,
        campaign_nano_rho=plan.cap_nano_rho,
    )
    record = RecordSteps(
        noise_multiplier=plan.record.noise_multiplier,
        sample_rate=plan.record.sample_rate,
        steps=plan.record.steps,
        cap_epsilon=plan.record.cap_epsilon,
        delta=plan.delta,
    )
    try:
        ledger.charge(
            key,
            epochs=plan.data_epochs,
            cost_nano_rho=plan.cost_nano_rho,
            caps=caps,
            limits=plan.participation,
            record=record,
            now=now,
        )
    except TooSoonError:
        return ReplyCode.TOO_SOON
    except BudgetExceededError as error:
        of_record = error.scope == "record"
        return ReplyCode.RECORD_BUDGET_EXHAUSTED if of_record else ReplyCode.BUDGET_EXHAUSTED
    return None


def _seen_before(ledger: DeviceLedger, outbox: Outbox, key: AttemptKey) -> Answer:
    kept = outbox.read(key)
    if ledger.state(key) is AttemptState.CHARGED:
        # A crash came between the charge and the mark.
        ledger.mark(key, AttemptState.LOST if kept is None else AttemptState.RELEASED)
    if kept is None or ledger.state(key) is AttemptState.LOST:
        return ReplyCode.DEVICE_FAULT, b""
    return ReplyCode.OK, kept


def _windows(home: AgentHome, plan: CampaignPlan) -> NDArray[np.int64]:
    with EventStore.open(home.store) as store:
        return windows_of_days([tokens for _, tokens in _days(store, plan)], plan.record)


def _days(store: EventStore, plan: CampaignPlan) -> list[tuple[date, Tokens]]:
    """The plan's tokens of each stored day, int64[n], oldest day first."""
    vocabulary = Vocabulary(plan.tokens)
    if vocabulary.size != plan.model.vocabulary_size:
        raise PlanError(
            f"the plan's model is over {plan.model.vocabulary_size} tokens, its vocabulary has "
            f"{vocabulary.size}; agree to a plan where they are equal"
        )
    # A damaged part costs itself alone; `tacitly-agent status` shows it.
    return [
        (day, vocabulary.encode(store.events(*bounds_ns(day), on_damage=_say)))
        for day in store.days()
        if f"{day:%Y-%m}" in plan.data_epochs
    ]


def _let_go(home: AgentHome, plan: CampaignPlan) -> None:
    """Mark the days all of whose events were trained on: those before the held-out part."""
    try:
        with EventStore.open(home.store) as store:
            days = _days(store, plan)
        if not days:
            return
        older, _ = split_by_time(np.concatenate([tokens for _, tokens in days]))
        ends = np.cumsum([len(tokens) for _, tokens in days])
        used = [day for (day, _), end in zip(days, ends, strict=True) if end <= len(older)]
        mark_trained(home.store, used)
    except (StoreError, OSError) as error:
        # The update is paid for and may go; the events go with the retention's cap.
        print(f"tacitly trainer: days were not marked: {error}", file=sys.stderr, flush=True)


def _say(damage: Damage) -> None:
    print(f"tacitly trainer: left out: {damage}", file=sys.stderr, flush=True)


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Wait for any other trainer of this home: one that was orphaned may be at its last job."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

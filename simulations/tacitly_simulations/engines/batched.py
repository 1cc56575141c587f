"""The batched engine: rounds of a campaign, many clients as one computation.

The same plan, training, clip, grid, mean and server optimiser as the faithful engine
(`flower.py`); without noise both give the same model to float32 rounding, with noise models of
the same distribution. What differs: clients train in blocks (`trainers.py`), nothing is sent, and
the cohort's noise is drawn once. n devices' shares are independent Gaussians of variance s², so
their sum is one Gaussian of variance n·s²; it goes on the same grid as the sum.

    simulated = simulate(directory, work, start, clients, processes=2)

A round, as on the server: select among those who may still be asked, charge all of them, train,
sum, noise, step, checkpoint, receipt. Everything is seeded and a checkpoint holds the state after
a round, so that a run that was killed goes on to the very same model.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.mechanisms.gaussian import decode_mean
from tacitly_server.home import CampaignDirectory
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from tacitly_server.rounds.optimizer import OptimizerState
from tacitly_server.rounds.receipts import (
    AdaptedClip,
    Outcome,
    Receipt,
    append_receipt,
    model_sha256,
    read_receipts,
)
from tacitly_simulations.engines.availability import ALWAYS, Availability
from tacitly_simulations.engines.client_file import SimulatedClients
from tacitly_simulations.engines.correlated_noise import CorrelatedNoise
from tacitly_simulations.engines.trainers import Trainers, Work

# Streams of seeds of their own, beside (seed, round, attempt, client).
_SELECTION: Final = 1_002
_NOISE: Final = 1_003
_COUNT_NOISE: Final = 1_007


class CampaignEndedError(TacitlyError):
    """A simulated campaign lost too many attempts in a row, or nobody may be asked any more."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """The last released model, float32[parameters], and every receipt."""

    model: NDArray[np.float32]
    receipts: list[Receipt]


def simulate(
    directory: Path,
    work: Work,
    model: NDArray[np.float32],
    clients: SimulatedClients,
    *,
    processes: int,
    ray_address: str | None = None,
    availability: Availability = ALWAYS,
    on_round: Callable[[Receipt], None] = lambda _receipt: None,
    on_clients: Callable[[int], None] = lambda _clients: None,
) -> Simulated:
    """Run the plan's rounds, going on from a checkpoint in `directory` where there is one.

    `processes` and `ray_address` are those of `Trainers`, and matters of speed alone.
    `on_clients` is told how many clients of the running attempt are trained.

    Raises:
        CampaignEndedError: too many attempts in a row were lost.
        ValidationError: the plan sums under masks; nothing here has the shape of what is masked.
    """
    plan = work.plan
    if plan.masking is not None:
        raise ValidationError(
            "the batched engine adds up no residues; simulate a plan with masking on Flower's"
        )
    home = CampaignDirectory(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = (
        read_checkpoint(home.checkpoint, plan)
        if home.checkpoint.exists()
        else Checkpoint(plan.hash, 0, 0, model, OptimizerState(), None)
    )
    receipts = _receipts_until(home.receipts, state)
    asked = _Asked(plan, clients.count)
    for receipt in receipts:
        asked.charge(
            receipt.round, _select(work, asked, receipt.round, receipt.attempt, availability)
        )
    noise = _Noise(work)
    with Trainers(work, clients, processes, ray_address, progress=on_clients) as trainers:
        while state.round < plan.rounds:
            last = receipts[-1] if receipts else None
            lost = last is not None and last.outcome is Outcome.LOST
            attempt = last.attempt + 1 if last is not None and lost else 1
            state, receipt = _attempt(trainers, asked, noise, state, attempt, availability)
            if receipt.outcome is Outcome.RELEASED:
                save_checkpoint(home.checkpoint, state)
            append_receipt(home.receipts, receipt)
            receipts.append(receipt)
            on_round(receipt)
            if attempt >= plan.stop.lost_in_a_row and receipt.outcome is Outcome.LOST:
                raise CampaignEndedError(
                    f"round {receipt.round} was lost {attempt} times: {receipt.usable} clients "
                    f"of {plan.cohort.minimum} were there; plan for fewer, or let more take part"
                )
    return Simulated(state.model, receipts)


def _attempt(
    trainers: Trainers,
    asked: "_Asked",
    noise: "_Noise",
    state: Checkpoint,
    attempt: int,
    availability: Availability,
) -> tuple[Checkpoint, Receipt]:
    """One attempt at the round after `state`."""
    work, plan, number = trainers.work, trainers.work.plan, state.round + 1
    adaptive, private = work.adaptive_clip, work.privacy.protects_subjects
    now = plan
    if adaptive is not None:
        now = adaptive.plan_of_round(plan, state.receipt, noised=private)
    clip: AdaptedClip | None = None
    began = time.monotonic()
    selected = _select(work, asked, number, attempt, availability)
    asked.charge(number, selected)
    answering = selected[~availability.drops_out(selected, (work.seed, number, attempt))]
    released = len(answering) >= plan.cohort.minimum
    if released:
        total, within = trainers.clipped_sum_and_count(
            state.model,
            number,
            [int(client) for client in answering],
            attempt=attempt,
            clip_norm=float(now.subject.clip_norm),
        )
        if private:
            total += noise(now, len(answering), number, attempt)
        if adaptive is not None:
            seed = (work.seed, _COUNT_NOISE, number, attempt)
            clip = adaptive.outcome(now, within, len(answering), seed if private else None)
        delta, optimizer_state = optimizer.step(
            plan.optimizer, state.optimizer, decode_mean(total, now)
        )
        moved = optimizer.apply(plan.model, state.model, delta)
        state = Checkpoint(plan.hash, number, attempt, moved, optimizer_state, None)
    receipt = Receipt(
        plan_hash=plan.hash,
        round=number,
        attempt=attempt,
        outcome=Outcome.RELEASED if released else Outcome.LOST,
        selected=len(selected),
        usable=len(answering),
        refusals={},
        noise_multiplier=plan.subject.noise_multiplier,
        cost_nano_rho=plan.cost_nano_rho,
        model_sha256=model_sha256(state.model) if released else None,
        seconds=time.monotonic() - began,
        bytes_up=0,
        clip=clip,
    )
    return (replace(state, receipt=receipt) if released else state), receipt


def noise_on_sum(plan: CampaignPlan, devices: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """The sum of so many devices' noise shares on the plan's grid: int64[trainable_parameters]."""
    deviation = plan.noise_share_std * np.sqrt(devices)
    rng = np.random.default_rng(tuple(seed))
    noise = rng.normal(0.0, deviation / plan.grid_step, plan.model.trainable_parameters)
    return np.rint(noise).astype(np.int64)


class _Noise:
    """A round's noise on its sum, as the work would have it."""

    def __init__(self, work: Work) -> None:
        self._seed = work.seed
        self._correlated: CorrelatedNoise | None = None
        if work.noise_coefficients:
            plan = work.plan
            # In grid steps. The curator sees the sum and adds z·C, however many answered.
            deviation = math.ldexp(float(plan.subject.noise_multiplier), plan.subject.grid_bits)

            def draw(number: int) -> NDArray[np.float64]:
                # A lost attempt releases nothing: a round has one draw.
                rng = np.random.default_rng((work.seed, _NOISE, number))
                return rng.normal(0.0, deviation, plan.model.trainable_parameters)

            self._correlated = CorrelatedNoise(work.noise_coefficients, draw)

    def __call__(
        self, plan: CampaignPlan, answers: int, number: int, attempt: int
    ) -> NDArray[np.int64]:
        """On the grid of the round's `plan`: int64[trainable_parameters]."""
        if self._correlated is None:
            return noise_on_sum(plan, answers, (self._seed, _NOISE, number, attempt))
        return np.rint(self._correlated.of_round(number)).astype(np.int64)


def _select(
    work: Work, asked: "_Asked", number: int, attempt: int, availability: Availability
) -> NDArray[np.int64]:
    """Uniformly without replacement among those online who may be asked; sorted."""
    rng = np.random.default_rng((work.seed, _SELECTION, number, attempt))
    online = availability.is_online(len(asked.times), number, (work.seed, number, attempt))
    eligible = np.flatnonzero(asked.may_be(number) & online)
    most = work.plan.cohort.asked
    if len(eligible) > most:
        eligible = rng.choice(eligible, most, replace=False)
    return np.sort(eligible)


class _Asked:
    """How often and when each client was asked, against the plan's participation limits."""

    def __init__(self, plan: CampaignPlan, clients: int) -> None:
        self.limits = plan.participation
        self.times = np.zeros(clients, dtype=np.int32)
        self.last = np.full(clients, -self.limits.minimum_gap_rounds - 1, dtype=np.int32)

    def may_be(self, number: int) -> NDArray[np.bool_]:
        """Who may be asked in this round: bool[clients]."""
        most = min(self.limits.per_campaign, self.limits.per_epoch)
        rested = (number - self.last >= self.limits.minimum_gap_rounds) | (self.last == number)
        may: NDArray[np.bool_] = (self.times < most) & rested
        return may

    def charge(self, number: int, selected: NDArray[np.int64]) -> None:
        """Count them."""
        self.times[selected] += 1
        self.last[selected] = number


def _receipts_until(path: Path, state: Checkpoint) -> list[Receipt]:
    """The receipts of what the checkpoint holds; those of attempts after it happen again."""
    if state.receipt is None:
        path.unlink(missing_ok=True)
        return []
    receipts = [receipt for receipt in read_receipts(path) if receipt.round <= state.round]
    if state.receipt not in receipts:
        receipts.append(state.receipt)
    path.unlink(missing_ok=True)
    for receipt in receipts:
        append_receipt(path, receipt)
    return receipts

"""What a study compares: settings, the recipes they start from, and the noise an ε needs."""

from decimal import Decimal
from enum import StrEnum
from math import ceil, log10
from typing import Final

import msgspec

from tacitly_client.training.baseline import PlainSettings
from tacitly_common.accounting.record import epsilon_of_rdp, rdp_of_steps
from tacitly_common.campaign import RecordMechanism
from tacitly_common.validation import in_range, positive

EMBEDDING: Final = 32
HIDDEN: Final = 128

# Found on CoAuthor's own tails; docs/results.md says what else was tried.
ONE_ROUND: Final = PlainSettings(epochs=1, batch_windows=16, learning_rate=0.5, momentum=0.9)
CENTRAL: Final = PlainSettings(epochs=6, batch_windows=16, learning_rate=0.5, momentum=0.9)
ALONE: Final = PlainSettings(epochs=10, batch_windows=16, learning_rate=0.5, momentum=0.9)
PRETRAINING: Final = PlainSettings(epochs=5, batch_windows=16, learning_rate=0.5, momentum=0.9)

# The record level where it is on. A window of 48 tokens is a record.
RECORDS: Final = RecordMechanism(
    window_tokens=48,
    max_windows=400,
    sample_rate=Decimal("0.1"),
    steps=20,
    noise_multiplier=Decimal(1),
    clip_norm=Decimal("0.5"),
    learning_rate=Decimal("0.2"),
    cap_epsilon=Decimal(1_000),
)
# Where it is off, nothing bounds how much of a person's data a round may use.
ALL_RECORDS: Final = msgspec.structs.replace(RECORDS, max_windows=1_000_000)


class Start(StrEnum):
    """The model that training begins with."""

    RANDOM = "random"
    PUBLIC = "public"


class StudySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a study compares, and with what. `train` names tensors; all if empty, and
    no adapters without an `adapter_rank`.

    `clip_norm` and what begins with `private_` are of the federated rows with subject-level
    privacy. `as_if` are the cohorts of the what-if rows,
    `record_level` turns on DP-SGD inside the device. `masked` encodes the rows with an ε as where
    sums are made under masks: residues with integer noise, added modulo the field.
    """

    epsilons: tuple[float, ...] = (2.0, 4.0, 8.0)
    rounds: int = 25
    private_rounds: int = 5
    clip_norm: float = 1.0
    private_learning_rate: float = 1.0
    private_momentum: float = 0.0
    start: Start = Start.RANDOM
    train: tuple[str, ...] = ()
    adapter_rank: int | None = None
    as_if: tuple[int, ...] = ()
    record_level: bool = False
    masked: bool = False
    baselines: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        for epsilon in self.epsilons:
            positive(epsilon=epsilon)
        positive(rounds=self.rounds, private_rounds=self.private_rounds)
        for cohort in self.as_if:
            in_range(2, 1_000_000, as_if=cohort)
        in_range(0, 2**32 - 1, seed=self.seed)


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The noise of a private row: (`epsilon`, `delta`) over all rounds needs z."""

    epsilon: float
    delta: float
    cohort: int
    participations: int
    noise_multiplier: Decimal


def largest_delta(population: int) -> Decimal:
    """The largest power of ten that is at most 1/(10 x population)."""
    return Decimal(10) ** -(1 + ceil(log10(population)))


def record_epsilon(rounds: int, delta: float) -> float:
    """ε at `delta` of one window after `rounds` rounds of `RECORDS`, as a device counts it."""
    steps = rounds * RECORDS.steps
    rdp = rdp_of_steps(RECORDS.noise_multiplier, RECORDS.sample_rate, steps)
    return epsilon_of_rdp(rdp, delta)

"""The campaign plan: what a run may do, in one canonical document both sides hold.

The SHA-256 of the canonical JSON is the plan's name. A device takes its plan from its own disk
and never from a message; the server's messages only name it. Whatever the plan bounds (clip,
noise, cohort, rounds, model, application code) is taken from the plan, not from the server.

    plan = read_plan(path)            # PlanError names the file, the place and the fix
    plan.hash                         # 64 hex digits
    plan.cap_nano_rho                 # what it may cost a person in all

Decimals are strings in JSON so that no reader rounds them; unknown fields are refused so that
no field can be meant by one side and ignored by the other.
"""

import hashlib
import math
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from tacitly_common.accounting.subject import nano_rho_per_participation
from tacitly_common.errors import TacitlyError
from tacitly_common.model_config import ModelConfig
from tacitly_common.validation import in_range, positive, probability, sha256_hex, short_name

PLAN_SCHEMA_VERSION: Final = 1


class PlanError(TacitlyError, ValueError):
    """A plan is malformed or contradicts itself."""

    exit_code = 2


class Level(StrEnum):
    """How much of an event a token keeps (architecture.md, "Levels of content")."""

    CLASSES = "classes"
    CHARACTERS = "characters"


class Family(StrEnum):
    """A group of tokens that a plan asks for; events of other groups give no token."""

    KEYS = "keys"
    POINTER = "pointer"
    APPLICATIONS = "applications"
    PAUSES = "pauses"


class ServerOptimizerName(StrEnum):
    """How the server applies the mean update (Reddi et al. 2021, Algorithm 2)."""

    SGD = "sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"


class TokenPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which vocabulary turns events into tokens, and which of its families are in use."""

    vocabulary_version: int
    level: Level
    families: tuple[Family, ...]

    def __post_init__(self) -> None:
        in_range(1, 1_000_000, vocabulary_version=self.vocabulary_version)
        if not self.families or list(self.families) != sorted(set(self.families)):
            raise PlanError(f"families must be sorted, unique and not empty: {self.families}")


class SubjectMechanism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Person level: the whole update is clipped to L2 norm `clip_norm` (C) and noised.

    The sum over the cohort carries Gaussian noise of standard deviation
    `noise_multiplier` x `clip_norm` in each coordinate, also when only the plan's minimum
    cohort answers. Coordinates travel as integers on a grid of `clip_norm` x 2^-`grid_bits`.
    """

    clip_norm: Decimal
    noise_multiplier: Decimal
    grid_bits: int = 16

    def __post_init__(self) -> None:
        positive(clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier)
        in_range(Decimal("0.000001"), 1_000_000, noise_multiplier=self.noise_multiplier)
        in_range(8, 24, grid_bits=self.grid_bits)


class RecordMechanism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Record level: Poisson-sampled DP-SGD over windows inside the device.

    A window is a record: `window_tokens` consecutive tokens. `max_windows` (the most recent
    ones are kept) and `sample_rate` are public, so the gradient's fixed denominator,
    `expected_batch_windows`, is no function of how much a person typed (opacus #819).
    """

    window_tokens: int
    max_windows: int
    sample_rate: Decimal
    steps: int
    noise_multiplier: Decimal
    clip_norm: Decimal
    learning_rate: Decimal

    def __post_init__(self) -> None:
        in_range(2, 1_024, window_tokens=self.window_tokens)
        in_range(1, 1_000_000, max_windows=self.max_windows)
        in_range(1, 1_000_000, steps=self.steps)
        probability(sample_rate=self.sample_rate)
        positive(
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            learning_rate=self.learning_rate,
        )

    @property
    def expected_batch_windows(self) -> float:
        """The public denominator of a step's summed gradient."""
        return float(self.sample_rate * self.max_windows)


class CohortPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who takes part in a round, and how long it may take.

    `target` devices are asked and are the fixed denominator of the mean; with fewer than
    `minimum` usable answers by the deadline nothing is released.
    """

    population: int
    target: int
    minimum: int
    deadline_seconds: int
    selection_timeout_seconds: int

    def __post_init__(self) -> None:
        in_range(1, 100_000_000, population=self.population)
        in_range(2, self.population, target=self.target)
        in_range(2, self.target, minimum=self.minimum)
        in_range(1, 86_400, deadline_seconds=self.deadline_seconds)
        in_range(1, 86_400, selection_timeout_seconds=self.selection_timeout_seconds)


class ServerOptimizerPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Server-side optimiser over the mean update, taken as a negative gradient."""

    name: ServerOptimizerName
    learning_rate: Decimal
    momentum: Decimal = Decimal("0.9")

    def __post_init__(self) -> None:
        positive(learning_rate=self.learning_rate)
        in_range(0, Decimal("0.999"), momentum=self.momentum)


class CampaignPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One campaign. See the parts for what each bounds.

    `participations` is the most attempts one subject pays for: a lost attempt costs what a
    released one does, so a plan that asks everybody every round needs some to spare. `delta` is
    the ledger's δ; `app_hash` the SHA-256 of the Flower application that this protocol version is;
    `initial_model_hash` the SHA-256 of the float32 vector that the first round starts from.
    """

    schema_version: int = PLAN_SCHEMA_VERSION
    name: str
    purpose: str
    tokens: TokenPlan
    model: ModelConfig
    initial_model_hash: str
    app_hash: str
    rounds: int
    participations: int
    delta: Decimal
    subject: SubjectMechanism
    record: RecordMechanism
    cohort: CohortPlan
    optimizer: ServerOptimizerPlan

    def __post_init__(self) -> None:
        if self.schema_version != PLAN_SCHEMA_VERSION:
            raise PlanError(
                f"plan schema {self.schema_version} is not {PLAN_SCHEMA_VERSION}; "
                "use a Tacitly of the plan's version"
            )
        short_name(name=self.name, purpose=self.purpose)
        sha256_hex(initial_model_hash=self.initial_model_hash, app_hash=self.app_hash)
        in_range(1, 1_000_000, rounds=self.rounds)
        in_range(1, 1_000_000, participations=self.participations)
        probability(delta=self.delta)
        largest_delta = Decimal(1) / (10 * self.cohort.population)
        if self.delta > largest_delta:
            raise PlanError(
                f"delta is {self.delta}; for a population of {self.cohort.population} it must be "
                f"at most 1/(10 x population) = {largest_delta:.3g}"
            )

    @property
    def hash(self) -> str:
        """SHA-256, hex, of `to_json`: the plan's name."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def cost_nano_rho(self) -> int:
        """What one participation costs a subject, in nano-ρ (zCDP)."""
        return nano_rho_per_participation(self.subject.noise_multiplier)

    @property
    def cap_nano_rho(self) -> int:
        """What the campaign may cost a subject in all, in nano-ρ."""
        return self.participations * self.cost_nano_rho

    @property
    def grid_step(self) -> float:
        """What one unit of an encoded coordinate is worth in parameter units.

        A float64 on both sides: a power of two times `clip_norm`, so decoding loses nothing.
        """
        return math.ldexp(float(self.subject.clip_norm), -self.subject.grid_bits)

    @property
    def noise_share_std(self) -> float:
        """Standard deviation of one device's share of the noise, in parameter units.

        z·C/sqrt(minimum): the shares of any `minimum` answers sum to standard deviation z·C.
        """
        std_of_sum = self.subject.noise_multiplier * self.subject.clip_norm
        return float(std_of_sum) / math.sqrt(self.cohort.minimum)

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, decimals as strings, UTF-8."""
        return msgspec.json.encode(self, order="sorted")


def parse_plan(document: bytes, *, source: str = "plan") -> CampaignPlan:
    """A validated plan from its JSON.

    Raises:
        PlanError: not JSON, a missing, unknown or ill-typed field, or a value out of bounds;
            the message starts with `source` and names the place.
    """
    try:
        return msgspec.json.decode(document, type=CampaignPlan)
    except msgspec.MsgspecError as error:
        raise PlanError(f"{source}: {error}") from error


def read_plan(path: Path) -> CampaignPlan:
    """`parse_plan` of a file.

    Raises:
        PlanError: also if the file cannot be read.
    """
    try:
        document = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}; name an existing plan file") from error
    return parse_plan(document, source=str(path))

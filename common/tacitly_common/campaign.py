"""The campaign plan: what a run may do, in one canonical document both sides hold.

The SHA-256 of the canonical JSON is the plan's name. A device takes its plan from its own disk
and never from a message; the server's messages only name it. Whatever the plan bounds (clip,
noise, cohort, rounds, model, application code) is taken from the plan, not from the server.

    plan = read_plan(path)            # PlanError names the file, the place and the fix
    plan.hash                         # 64 hex digits
    plan.cap_nano_rho                 # what it may cost a person in all
    revise(plan, rounds=30)           # another plan: another hash, its worst case stated anew

Decimals are strings in JSON so that no reader rounds them; unknown fields are refused so that
no field can be meant by one side and ignored by the other. What a plan says it costs is never
believed: every reader computes it again (`WorstCase`).
"""

import hashlib
import math
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tacitly_common.accounting.masked_sums import (
    LARGEST_GROUP,
    LARGEST_SHARE,
    MaskedSums,
    split,
)
from tacitly_common.accounting.record import LARGEST_EPSILON, LARGEST_NOISE, SMALLEST_NOISE
from tacitly_common.accounting.rounded_gaussian import (
    SMALLEST_SHARE_STD,
    share_std,
    squared_norm_bound,
)
from tacitly_common.accounting.subject import epsilon_of, nano_rho_per_participation
from tacitly_common.errors import UNDECODABLE, TacitlyError
from tacitly_common.mechanisms.field import field_bits, flattened_over
from tacitly_common.model_config import ModelConfig
from tacitly_common.secagg.graph import graph_parameters
from tacitly_common.secagg.terms import GroupTooSmallError
from tacitly_common.validation import (
    calendar_months,
    in_range,
    positive,
    probability,
    sha256_hex,
    short_name,
    utc,
)

PLAN_SCHEMA_VERSION: Final = 2
# The device's code that a plan may name: what was approved is what runs.
CLIENT_VERSION: Final = "0.1.0"
_LONGEST_REFERENCE: Final = 200
_EPSILON_STEP: Final = Decimal("0.0001")
# How much above the computed ε a plan may state it: scipy's last digits differ by machine.
_EPSILON_SLACK: Final = Decimal("0.001")
# Residues are summed in 32-bit words.
_WIDEST_FIELD_BITS: Final = 32


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
    YOGI = "yogi"


class LegalBasis(StrEnum):
    """What makes the processing lawful: Regulation (EU) 2016/679, Article 6(1) a to f."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"


class Output(StrEnum):
    """What may leave a device. The list is closed: there is one."""

    MODEL_UPDATE = "model_update"


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

    | encoding         | noise, and what leaves a device                                         |
    |------------------|-------------------------------------------------------------------------|
    | gaussian_grid    | Gaussian, then rounded; 32-bit integers (mechanisms/gaussian.py)        |
    | rounded_gaussian | integers, summed under masks; residues (mechanisms/rounded_gaussian.py) |
    """

    clip_norm: Decimal
    noise_multiplier: Decimal
    encoding: Literal["gaussian_grid", "rounded_gaussian"] = "gaussian_grid"
    grid_bits: int = 16

    def __post_init__(self) -> None:
        positive(clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier)
        in_range(Decimal("0.000001"), 1_000_000, noise_multiplier=self.noise_multiplier)
        in_range(8, 24, grid_bits=self.grid_bits)


class MaskingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How answers are summed under masks, so that only sums are seen (tacitly_common/secagg).

    At most a share `dropout` of a group's members vanishes and at most a share `corruption` works
    with the server; that either fails otherwise has odds below 2^-`failure_bits` a group. Cohorts
    are split into groups of at least `group_size` members, or make one. The field is so wide that a
    group's sum wraps with odds below 2^-`wrap_bits`; `rotate` spreads updates over their
    coordinates first, which lets it be narrower.
    """

    dropout: Decimal
    corruption: Decimal
    failure_bits: int
    group_size: int
    wrap_bits: int
    rotate: bool = True

    def __post_init__(self) -> None:
        in_range(0, LARGEST_SHARE, dropout=self.dropout, corruption=self.corruption)
        in_range(10, 128, failure_bits=self.failure_bits, wrap_bits=self.wrap_bits)
        in_range(2, LARGEST_GROUP, group_size=self.group_size)


class RecordMechanism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Record level: Poisson-sampled DP-SGD over windows inside the device.

    A window is a record: `window_tokens` consecutive tokens. `max_windows` (the most recent
    ones are kept) and `sample_rate` are public, so the gradient's fixed denominator,
    `expected_batch_windows`, is no function of how much a person typed (opacus #819).
    `cap_epsilon` is the most that all steps together may cost a window, at the plan's δ.
    """

    window_tokens: int
    max_windows: int
    sample_rate: Decimal
    steps: int
    noise_multiplier: Decimal
    clip_norm: Decimal
    learning_rate: Decimal
    cap_epsilon: Decimal

    def __post_init__(self) -> None:
        in_range(2, 1_024, window_tokens=self.window_tokens)
        in_range(1, 1_000_000, max_windows=self.max_windows)
        in_range(1, 1_000_000, steps=self.steps)
        probability(sample_rate=self.sample_rate)
        positive(
            noise_multiplier=self.noise_multiplier,
            clip_norm=self.clip_norm,
            learning_rate=self.learning_rate,
            cap_epsilon=self.cap_epsilon,
        )
        # What the accounting can answer for.
        in_range(SMALLEST_NOISE, LARGEST_NOISE, noise_multiplier=self.noise_multiplier)
        in_range(0, LARGEST_EPSILON, cap_epsilon=self.cap_epsilon)

    @property
    def expected_batch_windows(self) -> float:
        """The public denominator of a step's summed gradient."""
        return float(self.sample_rate * self.max_windows)


class CohortPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who takes part in a round, and how long it may take.

    `target` is the fixed denominator of the mean. `target` + `oversample` devices are asked, and
    charged, since some will not answer; with fewer than `minimum` usable answers by the deadline
    nothing is released.
    """

    population: int
    target: int
    minimum: int
    oversample: int = 0
    deadline_seconds: int
    selection_timeout_seconds: int

    def __post_init__(self) -> None:
        in_range(1, 100_000_000, population=self.population)
        in_range(2, self.population, target=self.target)
        in_range(2, self.target, minimum=self.minimum)
        in_range(0, self.population - self.target, oversample=self.oversample)
        in_range(1, 86_400, deadline_seconds=self.deadline_seconds)
        in_range(1, 86_400, selection_timeout_seconds=self.selection_timeout_seconds)

    @property
    def asked(self) -> int:
        """How many devices a round asks, and charges, at the most."""
        return self.target + self.oversample


class ParticipationLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often one subject may be asked. Every charged attempt counts, also a lost one.

    At most `per_campaign` attempts in all and `per_epoch` that touch one data epoch; between two
    different rounds of a subject at least `minimum_gap_rounds` rounds (1: every round may be its)
    and `minimum_gap_hours` hours. A retry of the same round is no other round.
    """

    per_campaign: int
    per_epoch: int
    minimum_gap_rounds: int = 0
    minimum_gap_hours: int = 0

    def __post_init__(self) -> None:
        in_range(1, 1_000_000, per_campaign=self.per_campaign, per_epoch=self.per_epoch)
        in_range(0, 1_000_000, minimum_gap_rounds=self.minimum_gap_rounds)
        in_range(0, 8_784, minimum_gap_hours=self.minimum_gap_hours)


class StopRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a campaign ends by itself: after this many attempts lost in a row."""

    lost_in_a_row: int

    def __post_init__(self) -> None:
        in_range(1, 1_000_000, lost_in_a_row=self.lost_in_a_row)


class References(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the data protection impact assessment and the works agreement are filed.

    A plan without them is none, on either side (Regulation (EU) 2016/679, Article 35; BetrVG
    section 87(1) no. 6).
    """

    dpia: str
    works_agreement: str

    def __post_init__(self) -> None:
        for name in ("dpia", "works_agreement"):
            reference = getattr(self, name)
            if not 1 <= len(reference.strip()) <= _LONGEST_REFERENCE:
                raise PlanError(
                    f"references.{name} must say in 1 to {_LONGEST_REFERENCE} characters where it "
                    "is filed, or why there is none"
                )


class WorstCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person pays at the most. Stated for people to read and sign, never believed:

    the integers must be what the rest of the plan computes to, wherever it is read; `epsilon` (at
    `delta`) is checked by `check_epsilon`, before anybody signs or joins.
    """

    nano_rho_per_participation: int
    nano_rho_per_person: int
    epsilon: Decimal
    delta: Decimal

    def __post_init__(self) -> None:
        positive(epsilon=self.epsilon)


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

    `purpose` is the purpose's code. `data_epochs` are the calendar months (UTC, "2026-11") whose
    events may be learned from: everybody selected pays in each of them. A lost attempt costs what
    a released one does, so a plan that asks everybody every round needs participations to spare.
    `delta` is the ledger's δ; `app_hash` the SHA-256 of the Flower application that this protocol
    version is, `client_version` the Tacitly that devices run; `initial_model_hash` the SHA-256 of
    the float32 vector that the first round starts from. Nothing happens after `expires`.
    """

    schema_version: int = PLAN_SCHEMA_VERSION
    name: str
    purpose: str
    legal_basis: LegalBasis
    unit: Literal["subject"] = "subject"
    relation: Literal["add_or_remove_one"] = "add_or_remove_one"
    outputs: tuple[Output, ...] = (Output.MODEL_UPDATE,)
    tokens: TokenPlan
    data_epochs: tuple[str, ...]
    model: ModelConfig
    initial_model_hash: str
    app_hash: str
    client_version: str = CLIENT_VERSION
    rounds: int
    participation: ParticipationLimits
    delta: Decimal
    subject: SubjectMechanism
    record: RecordMechanism
    cohort: CohortPlan
    optimizer: ServerOptimizerPlan
    stop: StopRules
    references: References
    expires: datetime
    worst_case: WorstCase
    masking: MaskingPlan | None = None

    def __post_init__(self) -> None:
        if self.schema_version != PLAN_SCHEMA_VERSION:
            raise PlanError(
                f"plan schema {self.schema_version} is not {PLAN_SCHEMA_VERSION}; "
                "use a Tacitly of the plan's version"
            )
        short_name(name=self.name, purpose=self.purpose)
        sha256_hex(initial_model_hash=self.initial_model_hash, app_hash=self.app_hash)
        in_range(1, 1_000_000, rounds=self.rounds)
        calendar_months(data_epochs=self.data_epochs)
        utc(expires=self.expires)
        if self.outputs != (Output.MODEL_UPDATE,):
            raise PlanError(f"outputs must be [{Output.MODEL_UPDATE}], the only one there is")
        probability(delta=self.delta)
        largest_delta = Decimal(1) / (10 * self.cohort.population)
        if self.delta > largest_delta:
            raise PlanError(
                f"delta is {self.delta}; for a population of {self.cohort.population} it must be "
                f"at most 1/(10 x population) = {largest_delta:.3g}"
            )
        self._check_masking()
        stated, computed = self.worst_case, _worst_case(self, self.worst_case.epsilon)
        if stated != computed:
            raise PlanError(
                f"the plan states a worst case of {_shown(stated)}, it computes to "
                f"{_shown(computed)}; state what it costs, or change what it does"
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
        return self.participation.per_campaign * self.cost_nano_rho

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

    @property
    def rotates(self) -> bool:
        """Updates are rotated before they are rounded (mechanisms/rotation.py)."""
        return self.masking is not None and self.masking.rotate

    @property
    def squared_norm_bound(self) -> int:
        """B², in grid steps: what an update is held to after rounding, where sums are masked."""
        clip_steps = 1 << self.subject.grid_bits
        return squared_norm_bound(clip_steps, self.model.trainable_parameters)

    @property
    def share_steps(self) -> float:
        """Standard deviation of one device's share of integer noise, in grid steps.

        z·B/sqrt(minimum): z is relative to the bound that holds after rounding.
        """
        return share_std(
            self.subject.noise_multiplier, self.squared_norm_bound, self.cohort.minimum
        )

    @property
    def masked_sums(self) -> MaskedSums | None:
        """The groups whose sums are unmasked, and what they are made of."""
        if self.masking is None:
            return None
        return split(
            asked=self.cohort.asked,
            minimum=self.cohort.minimum,
            group_size=self.masking.group_size,
            corruption=self.masking.corruption,
        )

    @property
    def server_cap_nano_rho(self) -> int:
        """The same against the server, if nobody works with it, in nano-ρ."""
        sums = self.masked_sums
        loss = Fraction(self.cohort.minimum) if sums is None else sums.loss(Decimal(0))
        return math.ceil(self.cap_nano_rho * loss)

    @property
    def field_bits(self) -> int:
        """Residues are mod 2^this: the width at which a masked update's coordinate travels."""
        masking, sums, d = self.masking, self.masked_sums, self.model.trainable_parameters
        if masking is None or sums is None:
            raise PlanError(f"the plan {self.name} has no masking, and no field to sum in")
        return field_bits(
            coordinates=d,
            answers=sums.largest_group,
            clip_steps=1 << self.subject.grid_bits,
            share_std=self.share_steps,
            flattened_over=flattened_over(d) if masking.rotate else None,
            wrap_bits=masking.wrap_bits,
        )

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no white space, decimals as strings, UTF-8.

        `masking` is left out where there is none: plans from before it keep their hashes.
        """
        document = msgspec.to_builtins(self)
        if self.masking is None:
            del document["masking"]
        return msgspec.json.encode(document, order="sorted")

    def _check_masking(self) -> None:
        encoding = self.subject.encoding
        if (encoding == "rounded_gaussian") != (self.masking is not None):
            raise PlanError(
                f"the encoding is {encoding} and masking is "
                f"{'absent' if self.masking is None else 'present'}; masking comes with the "
                "encoding rounded_gaussian, and only with it"
            )
        masking, sums = self.masking, self.masked_sums
        if masking is None or sums is None:
            return
        if self.share_steps < SMALLEST_SHARE_STD:
            raise PlanError(
                f"a device's share of the noise is {self.share_steps:.3g} grid steps, for integer "
                f"noise it must be at least {SMALLEST_SHARE_STD}; raise subject.grid_bits"
            )
        if self.field_bits > _WIDEST_FIELD_BITS:
            raise PlanError(
                f"sums need {self.field_bits} bits, there are {_WIDEST_FIELD_BITS}; lower "
                "subject.grid_bits"
            )
        if sums.largest_group > LARGEST_GROUP:
            raise PlanError(
                f"a group has {sums.largest_group} members, at most {LARGEST_GROUP} are possible; "
                "lower masking.group_size"
            )
        if sums.fewest_answers < 2:
            raise PlanError(
                f"{sums.groups} groups with a minimum of {self.cohort.minimum} answers leave "
                "groups of one; raise masking.group_size"
            )
        try:
            graph_parameters(
                sums.largest_group,
                masking.dropout,
                masking.corruption,
                masking.failure_bits,
            )
        except GroupTooSmallError as error:
            raise PlanError(str(error)) from None


def make_plan(**fields: Any) -> CampaignPlan:
    """A plan from every field but `worst_case`, which is computed.

    Raises:
        PlanError, ValidationError: a field is missing or out of bounds.
    """
    # The first stands only to be computed from: a plan that misstates its cost cannot exist.
    subject, delta = fields["subject"], fields["delta"]
    cost = nano_rho_per_participation(subject.noise_multiplier)
    cap = fields["participation"].per_campaign * cost
    worst_case = WorstCase(
        nano_rho_per_participation=cost,
        nano_rho_per_person=cap,
        epsilon=_epsilon_rounded_up(cap, delta),
        delta=delta,
    )
    return CampaignPlan(**fields, worst_case=worst_case)


def revise(plan: CampaignPlan, **changes: Any) -> CampaignPlan:
    """The plan with whole fields replaced and its worst case computed anew."""
    fields = {name: getattr(plan, name) for name in plan.__struct_fields__ if name != "worst_case"}
    return make_plan(**fields | changes)


def check_epsilon(plan: CampaignPlan) -> None:
    """Refuse a plan that states another ε than it costs. Imports scipy.

    Raises:
        PlanError: the stated ε is below the computed one, or above it by more than 0.001.
    """
    computed = _epsilon_rounded_up(plan.cap_nano_rho, plan.delta)
    if not computed <= plan.worst_case.epsilon <= computed + _EPSILON_SLACK:
        raise PlanError(
            f"the plan states ε = {plan.worst_case.epsilon} for a person's worst case; it is "
            f"{computed} at δ = {plan.delta}; state that"
        )


def parse_plan(document: bytes, *, source: str = "plan") -> CampaignPlan:
    """A validated plan from its JSON.

    Raises:
        PlanError: not JSON, a missing, unknown or ill-typed field, or a value out of bounds;
            the message starts with `source` and names the place.
    """
    try:
        return msgspec.json.decode(document, type=CampaignPlan)
    except UNDECODABLE as error:
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


def _worst_case(plan: CampaignPlan, epsilon: Decimal) -> WorstCase:
    return WorstCase(
        nano_rho_per_participation=plan.cost_nano_rho,
        nano_rho_per_person=plan.cap_nano_rho,
        epsilon=epsilon,
        delta=plan.delta,
    )


def _epsilon_rounded_up(nano_rho: int, delta: Decimal) -> Decimal:
    epsilon = Decimal(epsilon_of(nano_rho, float(delta)))
    return epsilon.quantize(_EPSILON_STEP, rounding=ROUND_CEILING)


def _shown(worst: WorstCase) -> str:
    return (
        f"{worst.nano_rho_per_participation} nano-ρ a participation and "
        f"{worst.nano_rho_per_person} a person at δ = {worst.delta}"
    )

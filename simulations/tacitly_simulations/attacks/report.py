"""What every `tacitly-sim attack` reports, whatever it tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import msgspec

SCHEMA_VERSION: Final = 1


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One case of an attack.

    `claimed_epsilon`, at the report's δ: what was promised; None where nothing was.
    `measured_epsilon`: an ε that the attack shows the case to exceed, wrong with a probability of
    at most 1 - `confidence`; None where the attack measures something else. `figures` are that.
    """

    case: str
    claimed_epsilon: float | None = None
    measured_epsilon: float | None = None
    figures: dict[str, float]

    @property
    def refuted(self) -> bool:
        """The attack shows that the claim does not hold."""
        claimed, measured = self.claimed_epsilon, self.measured_epsilon
        return claimed is not None and measured is not None and measured > claimed


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one attack. `settings` and `seed` repeat it, but for the secure noise."""

    schema_version: int = SCHEMA_VERSION
    attack: str
    title: str
    seed: int
    settings: dict[str, str | int | float]
    delta: float | None
    confidence: float | None
    seconds: float
    rows: list[Row]

    def to_json(self) -> str:
        """One document."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()


@dataclass(frozen=True, slots=True)
class Clock:
    """How long an attack takes, from when it was made."""

    started: float = field(default_factory=monotonic)

    def report(
        self,
        attack: str,
        title: str,
        rows: list[Row],
        *,
        seed: int,
        settings: Mapping[str, str | int | float],
        delta: float | None = None,
        confidence: float | None = None,
    ) -> Report:
        """The attack's report, its seconds being those since this clock was made."""
        return Report(
            attack=attack,
            title=title,
            seed=seed,
            settings=dict(settings),
            delta=delta,
            confidence=confidence,
            seconds=round(monotonic() - self.started, 1),
            rows=rows,
        )

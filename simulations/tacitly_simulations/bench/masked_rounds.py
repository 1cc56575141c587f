"""Many masked rounds of random groups: `python -m tacitly_simulations.bench.masked_rounds`.

Each group has another size, field, length and bounds, and its members vanish at random in every
phase. A round must end in the plain modular sum of exactly the survivors, bit for bit, or be lost;
and it must not be lost if no more have vanished than its terms allow.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Final

import click
import numpy as np

from tacitly_common.secagg.terms import GroupTerms
from tacitly_server.aggregation.masking import GroupLostError
from tacitly_simulations.bench.masked_group import (
    Gone,
    MaskedGroup,
    make_terms,
    plain_sum,
    random_vectors,
)

_PHASES: Final = ("adverts", "shares", "uploads", "confirmations", "unmaskings")
_LARGEST_SHARE: Final = 0.3


def play_one(terms: GroupTerms, size: int, gone: Gone, seed: int) -> str:
    """How a round ended: "exact", "lost: REASON", or a problem, which begins with "wrong"."""
    vectors = random_vectors(terms, size, seed)
    group = MaskedGroup(terms, vectors, gone)
    try:
        result = group.play()
    except GroupLostError as lost:
        members = len(group.server.members)
        vanished = len(gone.shares | gone.uploads | gone.confirmations | gone.unmaskings)
        allowed = vanished <= int(terms.dropout * members)
        remaining = members - len(gone.shares | gone.uploads)
        if members and allowed and remaining >= terms.minimum:
            return f"wrong: lost ({lost.reason}) although few had vanished"
        return f"lost: {lost.reason}"
    if set(result.contributors) != set(vectors) - gone.adverts - gone.shares - gone.uploads:
        return "wrong: other contributors"
    expected = plain_sum(terms, (vectors[node] for node in result.contributors))
    return "exact" if np.array_equal(result.total, expected) else "wrong: another sum"


def random_gone(rng: np.random.Generator, size: int) -> Gone:
    """Up to three in ten of those who are left vanish in each phase."""
    left = [100 + number for number in range(size)]
    gone: dict[str, frozenset[int]] = {}
    for phase in _PHASES:
        share = rng.uniform(0, _LARGEST_SHARE) * (rng.random() < 0.5)
        gone[phase] = _drawn(rng, left, round(share * len(left)))
        left = [node for node in left if node not in gone[phase]]
    return Gone(**gone)


def allowed_gone(rng: np.random.Generator, size: int, dropout: Decimal) -> Gone:
    """Three in ten never come, and of the others as many vanish later as the terms allow."""
    left = [100 + number for number in range(size)]
    gone = {"adverts": _drawn(rng, left, int(_LARGEST_SHARE * rng.random() * size))}
    left = [node for node in left if node not in gone["adverts"]]
    later = sorted(_drawn(rng, left, int(dropout * len(left))))
    phases = rng.integers(1, len(_PHASES), len(later))
    for number, phase in enumerate(_PHASES[1:], start=1):
        gone[phase] = frozenset(
            node for node, its in zip(later, phases, strict=True) if its == number
        )
    return Gone(**gone)


def _drawn(rng: np.random.Generator, nodes: list[int], count: int) -> frozenset[int]:
    return frozenset(map(int, rng.choice(nodes, count, replace=False))) if count else frozenset()


def run_large(sizes: Sequence[int], seed: int) -> Iterator[tuple[int, str]]:
    """How one round of each size ended; none of them may be lost."""
    rng = np.random.default_rng(seed)
    terms = make_terms(dropout=Decimal("0.1"), corruption=Decimal("0.05"))
    for size in sizes:
        yield size, play_one(terms, size, allowed_gone(rng, size, terms.dropout), seed)


def run(
    rounds: int, largest: int, seed: int, report: Callable[[str], None] = lambda _line: None
) -> Counter[str]:
    """How so many rounds ended."""
    endings: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    for number in range(rounds):
        terms = make_terms(
            round=number,
            minimum=2,
            coordinates=int(rng.integers(1, 70)),
            field_bits=int(rng.integers(1, 33)),
            dropout=Decimal(int(rng.integers(0, 31))) / 100,
            corruption=Decimal(int(rng.integers(0, 21))) / 100,
        )
        size = int(rng.integers(2, largest + 1))
        gone = random_gone(rng, size)
        endings[play_one(terms, size, gone, seed=number)] += 1
        if number % 1_000 == 999:
            report(f"{number + 1} rounds")
    return endings


@click.command()
@click.option("--rounds", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--largest", default=12, show_default=True, type=click.IntRange(2, 1_000))
@click.option("--seed", default=1, show_default=True)
@click.option("--size", "sizes", multiple=True, type=click.IntRange(2, 1_024))
def main(rounds: int, largest: int, seed: int, sizes: tuple[int, ...]) -> None:
    """Play rounds of random groups and compare each sum with the plain one.

    With --size, one round of each such size instead, of which none may be lost.
    """
    began = time.monotonic()
    if sizes:
        exact = True
        for size, ending in run_large(sizes, seed):
            click.echo(f"{size} devices: {ending}, {time.monotonic() - began:.0f} s so far")
            exact = exact and ending == "exact"
        sys.exit(0 if exact else 5)
    endings = run(rounds, largest, seed, report=click.echo)
    for ending, count in sorted(endings.items()):
        click.echo(f"{count:>7}  {ending}")
    problems = sum(count for ending, count in endings.items() if ending.startswith("wrong"))
    click.echo(f"{rounds} rounds, {problems} problems, {time.monotonic() - began:.0f} s")
    sys.exit(5 if problems else 0)


if __name__ == "__main__":
    main()

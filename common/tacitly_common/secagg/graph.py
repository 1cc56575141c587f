"""Who masks with whom, and how many of a device's neighbours must answer.

A group of n stands in a ring, in an order that is the hash of everybody's signed keys; each
device's neighbours are the k/2 before and the k/2 behind it (a Harary graph, Bell et al. 2020,
section 3), or, in a group of up to 100, everybody else. Nobody is told its neighbours: each derives
them.

With c = floor(corruption·n) colluding and d = floor(dropout·n) vanishing members, the numbers of
them among the k neighbours of an honest device, taken from the n-1 others, are hypergeometric; let
x_c and x_d be such that more occur for any device of the group with probability at most 2^-bits.

    threshold t = floor((k + x_c)/2) + 1
        Honest neighbours give one of a device's two secrets' shares, colluding ones both: k + x_c
        shares in all at the most, and 2t are needed for both secrets.
    k - x_d >= t
        What is expected to vanish does not cost the round.
    no k/2 places in a row of the ring hold only colluding and vanished members
        Else the ring could fall apart, and the sums of its parts be learned.
    k is an even number with all three, as small as bisection finds, else n - 1, where nothing is
    left to luck.

The server chooses last whom it takes into a roster, and can choose the keys of those who collude
with it: it can try rosters until one suits it. The probabilities that protect a device are
therefore taken 2^48 times smaller: a billion tries a second, for three days.

A server can also *say* that chosen devices vanished. Then the ring can be cut, but a device's own
mask comes off only with t answers of its neighbours, of whom t - x_c are honest and connected with
it: whatever is learned is a sum over more than (k - x_c)/2 honest devices. In a group where all
are neighbours it is always the one sum.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from math import comb
from typing import Final

from tacitly_common.secagg.terms import GroupTooSmallError

_GRINDING_BITS: Final = 48
# A mask more costs a device less than a millisecond for a million coordinates.
COMPLETE_UP_TO: Final = 100


@dataclass(frozen=True, slots=True)
class GraphParameters:
    """How many neighbours each device has, and how many of them must answer."""

    neighbours: int
    threshold: int


@lru_cache(maxsize=1_024)
def graph_parameters(
    size: int, dropout: Decimal, corruption: Decimal, failure_bits: int
) -> GraphParameters:
    """Small neighbourhoods that keep the module's promises in a group of `size`.

    Raises:
        GroupTooSmallError: there are none, with the numbers.
    """
    vanishing, colluding = int(dropout * size), int(corruption * size)
    others = size - 1

    def threshold(neighbours: int) -> int:
        """Of a ring; 0 if it does not do."""
        protected = failure_bits + _GRINDING_BITS
        if not _unlikely_gap(size, vanishing + colluding, neighbours // 2, protected):
            return 0
        return _threshold(
            neighbours,
            _largest_likely(others, colluding, neighbours, size, protected),
            _largest_likely(others, vanishing, neighbours, size, failure_bits),
        )

    # Twice this number is k; size // 2 stands for everybody.
    low, high = 1, size // 2
    while size > COMPLETE_UP_TO and low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if threshold(2 * middle) else (middle + 1, high)
    if size > COMPLETE_UP_TO and 2 * low < others:
        return GraphParameters(2 * low, threshold(2 * low))
    found = _threshold(others, colluding, vanishing)
    if size < 2 or not found:
        raise GroupTooSmallError(
            f"a group of {size} has no threshold at which {vanishing} may vanish and {colluding} "
            "may collude; lower the plan's dropout or corruption, or take larger groups"
        )
    return GraphParameters(others, found)


def _threshold(neighbours: int, colluding: int, vanishing: int) -> int:
    """The threshold, 0 if it is out of reach."""
    threshold = (neighbours + colluding) // 2 + 1
    return threshold if threshold <= neighbours - vanishing else 0


def _largest_likely(others: int, marked: int, drawn: int, devices: int, bits: int) -> int:
    """The smallest x with devices · P(X > x) <= 2^-bits, X marked among `drawn` of `others`.

    Exact, in integers: P(X = i) = C(marked, i)·C(others - marked, drawn - i) / C(others, drawn).
    """
    bound = comb(others, drawn)
    x = min(marked, drawn)
    ways = comb(marked, x) * comb(others - marked, drawn - x)
    tail = 0
    while x > 0:
        tail += ways
        if (tail * devices) << bits > bound:
            return x
        x -= 1
        ways = comb(marked, x) * comb(others - marked, drawn - x)
    return 0


def _unlikely_gap(size: int, gone: int, length: int, bits: int) -> bool:
    """Whether size · P(`length` given places are all among the `gone`) <= 2^-bits."""
    return gone < length or (comb(size - length, gone - length) * size) << bits <= comb(size, gone)


@dataclass(frozen=True, slots=True)
class Graph:
    """The neighbours of every member, by number in the roster."""

    parameters: GraphParameters
    _ring: tuple[int, ...]
    _place: tuple[int, ...]

    def neighbours(self, member: int) -> tuple[int, ...]:
        """Ascending."""
        size, degree = len(self._ring), self.parameters.neighbours
        if degree == size - 1:
            return tuple(other for other in range(size) if other != member)
        place = self._place[member]
        steps = range(1, degree // 2 + 1)
        around = (place + sign * step for step in steps for sign in (-1, 1))
        return tuple(sorted(self._ring[each % size] for each in around))


def make_graph(session: bytes, size: int, parameters: GraphParameters) -> Graph:
    """The graph of a roster. `session` is the hash of everything in it."""
    ring = sorted(range(size), key=lambda member: _position(session, member))
    place = [0] * size
    for position, member in enumerate(ring):
        place[member] = position
    return Graph(parameters, tuple(ring), tuple(place))


def _position(session: bytes, member: int) -> bytes:
    return hashlib.sha256(b"ring" + session + member.to_bytes(4, "big")).digest()

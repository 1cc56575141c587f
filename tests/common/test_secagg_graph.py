"""Who masks with whom: the promises of graph.py, counted out."""

import re
from decimal import Decimal
from pathlib import Path

import pytest
from scipy.stats import hypergeom

from tacitly_common.secagg.graph import GraphParameters, graph_parameters, make_graph
from tacitly_common.secagg.terms import GroupTooSmallError

BOUNDS = [("0.3", "0.1"), ("0.1", "0.1"), ("0.05", "0.05")]


@pytest.mark.parametrize(("dropout", "corruption"), BOUNDS)
@pytest.mark.parametrize("size", [2, 3, 5, 16, 64, 100, 101, 256, 500, 1_000])
def test_tails_are_as_small_as_promised(size, dropout, corruption):
    bits = 40
    found = graph_parameters(size, Decimal(dropout), Decimal(corruption), bits)
    k, t = found.neighbours, found.threshold
    colluding = hypergeom(size - 1, int(Decimal(corruption) * size), k)
    vanishing = hypergeom(size - 1, int(Decimal(dropout) * size), k)
    if k == size - 1:
        assert 2 * t > k + int(Decimal(corruption) * size)
        assert k - int(Decimal(dropout) * size) >= t
        return
    # Both secrets of a device take 2t shares; k + x are there if x neighbours collude.
    assert size * colluding.sf(2 * t - k - 1) <= 2.0 ** -(bits + 48)
    assert size * vanishing.sf(k - t) <= 2.0**-bits
    gone = int(Decimal(dropout) * size) + int(Decimal(corruption) * size)
    assert size * hypergeom(size, gone, k // 2).pmf(k // 2) <= 2.0 ** -(bits + 48)


def test_a_large_group_has_a_small_neighbourhood():
    found = graph_parameters(1_000, Decimal("0.1"), Decimal("0.05"), 40)
    assert found.neighbours < 200


def test_more_caution_takes_more_neighbours():
    sizes = [
        graph_parameters(1_000, Decimal("0.1"), Decimal("0.05"), bits).neighbours
        for bits in (20, 40, 80)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("size", "dropout", "corruption"), [(1, "0", "0"), (10, "0.4", "0.3"), (3, "0.34", "0.34")]
)
def test_a_group_too_small_for_its_bounds_is_refused(size, dropout, corruption):
    with pytest.raises(GroupTooSmallError, match=f"a group of {size} "):
        graph_parameters(size, Decimal(dropout), Decimal(corruption), 40)


@pytest.mark.parametrize(("size", "k"), [(2, 1), (7, 6), (150, 40), (151, 40)])
def test_neighbours_are_mutual_and_as_many_as_promised(size, k):
    graph = make_graph(b"s" * 32, size, GraphParameters(k, 1))
    around = [graph.neighbours(member) for member in range(size)]
    for member, neighbours in enumerate(around):
        assert len(neighbours) == k
        assert list(neighbours) == sorted(set(neighbours) - {member})
        assert all(member in around[each] for each in neighbours)


def test_another_roster_has_another_graph():
    parameters = GraphParameters(40, 25)
    one, other = (make_graph(session * 32, 150, parameters) for session in (b"s", b"t"))
    assert [one.neighbours(each) for each in range(150)] != [
        other.neighbours(each) for each in range(150)
    ]


def test_the_documents_table_is_what_is_computed():
    text = (Path(__file__).parents[2] / "docs" / "secure-aggregation.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+ / .+) \|$", text, re.MULTILINE)
    columns = [("0.1", "0.05"), ("0.1", "0.1"), ("0.3", "0.1"), ("0.3", "0.2")]
    assert len(rows) == 11
    for size, cells in rows:
        for (dropout, corruption), cell in zip(columns, cells.split(" | "), strict=True):
            found = graph_parameters(int(size), Decimal(dropout), Decimal(corruption), 40)
            assert cell == f"{found.neighbours} / {found.threshold}"

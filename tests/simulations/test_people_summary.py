"""Who a study's people are."""

import numpy as np
import pytest

from tacitly_common.vocabulary import START
from tacitly_simulations.lab.people_summary import summary_of
from tacitly_simulations.population import Client


def client(*tokens: int) -> Client:
    return Client("someone", np.array([START, *tokens]))


def test_people_who_type_alike_do_not_diverge_and_strangers_do_by_hand() -> None:
    alike = [client(*[2, 3] * 20), client(*[3, 2] * 30)]
    assert summary_of(alike).divergence == pytest.approx(0, abs=1e-9)
    apart = [client(*[2] * 40), client(*[3] * 40)]
    p, m = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    middle = (p + m) / 2
    by_hand = 0.5 * np.log2(1 / middle[0]) + 0.5 * float(m @ np.log2(m / middle))
    assert summary_of(apart).divergence == pytest.approx(by_hand)


def test_lengths_leave_session_starts_out() -> None:
    summary = summary_of([client(*[2] * 10), client(*[2, 3] * 10), client(*[4] * 60)])
    lengths = (summary.tokens_least, summary.tokens_median, summary.tokens_most, summary.tokens)
    assert lengths == (10, 20, 60, 90)
    assert [row.method for row in summary.predictors] == ["unigram", "bigram", "trigram", "5-gram"]

"""Masked rounds: the real device half against the real rounds, over a Grid in this process."""

from pathlib import Path

import numpy as np
from masked_lab import MaskedLab

from tacitly_common.mechanisms.encodings import decode_mean
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.checkpoint import read_checkpoint, read_initial
from tacitly_server.rounds.permit import Ending
from tacitly_server.rounds.receipts import Outcome


def check_model(lab: MaskedLab, nodes: list[int], at: tuple[int, int] = (1, 1)) -> None:
    """The released model is the one that those residues, added in the open, give, bit for bit."""
    mean = decode_mean(lab.plain_sum(at, nodes), lab.plan, 1)
    delta, _ = optimizer.step(lab.plan.optimizer, optimizer.OptimizerState(), mean)
    start = read_initial(lab.directory, lab.plan).model
    expected = optimizer.apply(lab.plan.model, start, delta)
    checkpoint = read_checkpoint(lab.directory.checkpoint, lab.plan)
    assert (checkpoint.round, checkpoint.attempt) == at
    np.testing.assert_array_equal(checkpoint.model, expected)


def test_the_model_is_that_of_the_plain_sum_bit_for_bit(tmp_path: Path) -> None:
    lab = MaskedLab(tmp_path)
    assert lab.run() is Ending.ROUNDS_REACHED
    (receipt,) = lab.receipts
    assert (receipt.outcome, receipt.usable, receipt.refusals) == (Outcome.RELEASED, 8, {})
    assert (receipt.groups, receipt.groups_unmasked) == (2, 2)
    assert list(receipt.phases) == ["advertise", "share", "upload", "confirm", "unmask"]
    assert {phase.answered for phase in receipt.phases.values()} == {8}
    check_model(lab, list(lab.devices))

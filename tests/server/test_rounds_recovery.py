"""What a restart makes of each point at which a process may have died."""

from pathlib import Path

import numpy as np
import pytest
from campaign_home import CampaignHome, make_home, subject

from ledgers import open_ledger
from tacitly_common.errors import LedgerError
from tacitly_server.ledger.population import AttemptKey, AttemptState
from tacitly_server.rounds.checkpoint import Checkpoint, previous, save_checkpoint
from tacitly_server.rounds.optimizer import OptimizerState
from tacitly_server.rounds.permit import caps_of
from tacitly_server.rounds.receipts import (
    Outcome,
    Receipt,
    append_receipt,
    model_sha256,
    read_receipts,
)
from tacitly_server.rounds.recovery import recover


class Server:
    """A campaign's state on disk, brought to any point of an attempt step by step."""

    def __init__(self, made: CampaignHome) -> None:
        self.plan, self.directory = made.plan, made.directory
        self.database = made.home.population_database
        self.ledger = open_ledger(self.database)

    def ledger_as_it_is(self) -> bytes:
        self.ledger.close()  # the last connection leaves all in one file
        copy = self.database.read_bytes()
        self.ledger = open_ledger(self.database)
        return copy

    def put_ledger_back(self, copy: bytes) -> None:
        self.ledger.close()
        self.database.write_bytes(copy)
        self.ledger = open_ledger(self.database)

    def charge(self, round_number: int) -> AttemptKey:
        key = self.ledger.plan(self.plan.hash, round_number)
        self.ledger.charge(
            key,
            [subject(n) for n in range(6)],
            epochs=self.plan.data_epochs,
            cost_nano_rho=self.plan.cost_nano_rho,
            caps=caps_of(self.plan, None),
        )
        return key

    def checkpoint(self, key: AttemptKey) -> Receipt:
        model = np.full(self.plan.model.parameters, key.round, dtype=np.float32)
        receipt = Receipt(
            plan_hash=key.plan_hash,
            round=key.round,
            attempt=key.attempt,
            outcome=Outcome.RELEASED,
            selected=6,
            usable=5,
            refusals={"no_answer": 1},
            noise_multiplier=self.plan.subject.noise_multiplier,
            cost_nano_rho=self.plan.cost_nano_rho,
            model_sha256=model_sha256(model),
            seconds=1.0,
            bytes_up=10,
        )
        save_checkpoint(
            self.directory.checkpoint,
            Checkpoint(
                key.plan_hash, key.round, key.attempt, model, OptimizerState(key.round), receipt
            ),
        )
        return receipt

    def release(self, round_number: int) -> Receipt:
        key = self.charge(round_number)
        receipt = self.checkpoint(key)
        self.ledger.mark(key, AttemptState.RELEASED, result_sha256=receipt.model_sha256)
        append_receipt(self.directory.receipts, receipt)
        return receipt

    def recover(self) -> Checkpoint:
        first = recover(self.directory, self.plan, self.ledger)
        content = self.directory.receipts.read_bytes() if self.directory.receipts.exists() else b""
        again = recover(self.directory, self.plan, self.ledger)
        assert again.round == first.round
        if content:
            assert self.directory.receipts.read_bytes() == content
        return first

    def receipts(self) -> list[tuple[int, int, Outcome]]:
        return [(r.round, r.attempt, r.outcome) for r in read_receipts(self.directory.receipts)]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(make_home(tmp_path))


def test_nothing_yet_is_round_zero(server: Server) -> None:
    assert server.recover().round == 0
    assert server.receipts() == []


def test_killed_before_the_charge_the_number_is_void(server: Server) -> None:
    key = server.ledger.plan(server.plan.hash, 1)
    assert server.recover().round == 0
    assert server.ledger.state(key) is AttemptState.VOID
    assert server.receipts() == []


def test_killed_while_collecting_the_attempt_is_lost_and_stays_paid(server: Server) -> None:
    server.release(1)
    key = server.charge(2)
    assert server.recover().round == 1
    assert server.ledger.state(key) is AttemptState.LOST
    assert server.ledger.spent_nano_rho(subject(0)) == 2 * server.plan.cost_nano_rho
    assert server.receipts() == [(1, 1, Outcome.RELEASED), (2, 1, Outcome.LOST)]
    lost = read_receipts(server.directory.receipts)[1]
    assert (lost.selected, lost.usable, lost.model_sha256) == (6, 0, None)


def test_killed_after_the_checkpoint_the_round_is_released_once(server: Server) -> None:
    server.release(1)
    key = server.charge(2)
    receipt = server.checkpoint(key)
    assert server.recover().round == 2
    assert server.ledger.state(key) is AttemptState.RELEASED
    assert read_receipts(server.directory.receipts)[1] == receipt


def test_killed_before_the_receipt_it_is_published_later(server: Server) -> None:
    key = server.charge(1)
    receipt = server.checkpoint(key)
    server.ledger.mark(key, AttemptState.RELEASED, result_sha256=receipt.model_sha256)
    assert server.recover().round == 1
    assert read_receipts(server.directory.receipts) == [receipt]


def test_killed_inside_the_receipt_it_is_published_whole(server: Server) -> None:
    receipt = server.release(1)
    content = server.directory.receipts.read_bytes()
    server.directory.receipts.write_bytes(content[:40])
    server.recover()
    assert read_receipts(server.directory.receipts) == [receipt]


def test_a_damaged_newest_checkpoint_costs_its_round_and_a_new_charge(server: Server) -> None:
    server.release(1)
    server.release(2)
    server.directory.checkpoint.write_bytes(b"damaged")
    assert server.recover().round == 1
    assert server.ledger.plan(server.plan.hash, 2).attempt == 2


def test_an_attempt_whose_checkpoint_is_damaged_is_lost(server: Server) -> None:
    server.release(1)
    key = server.charge(2)
    server.checkpoint(key)
    server.directory.checkpoint.write_bytes(b"damaged")
    assert server.recover().round == 1
    assert server.ledger.state(key) is AttemptState.LOST
    assert previous(server.directory.checkpoint).exists()


def test_a_ledger_older_than_the_checkpoint_is_refused(server: Server) -> None:
    server.release(1)
    older = server.ledger_as_it_is()
    server.release(2)
    server.directory.receipts.unlink()  # the checkpoint alone tells
    server.put_ledger_back(older)
    with pytest.raises(LedgerError, match=r"round 2 attempt 1.*put the newest one back"):
        server.recover()
    assert not server.directory.receipts.exists()


def test_a_ledger_that_was_removed_is_refused(server: Server) -> None:
    empty = server.ledger_as_it_is()
    lost = server.charge(1)
    server.recover()  # publishes that it was lost
    server.put_ledger_back(empty)
    with pytest.raises(LedgerError, match="no charge for 1 finished attempts"):
        server.recover()
    assert server.ledger.state(lost) is None

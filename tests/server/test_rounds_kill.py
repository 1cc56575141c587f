"""The ServerApp's work, killed at random points and started again, until it is done."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
from campaign_home import constant_update, make_home, run_to_be_killed, subject

from forks import forks
from ledgers import open_ledger
from plans import small_plan
from tacitly_common.mechanisms.gaussian import decode_mean
from tacitly_server.ledger.population import AttemptState
from tacitly_server.rounds import optimizer
from tacitly_server.rounds.campaign import Ending
from tacitly_server.rounds.checkpoint import read_checkpoint, read_initial
from tacitly_server.rounds.receipts import Outcome, model_sha256, read_receipts

NODES, COHORT, ROUNDS, KILLS = 8, 4, 100, 24


def test_killed_at_random_points_it_completes_and_every_release_was_paid(tmp_path: Path) -> None:
    base = small_plan()
    made = make_home(
        tmp_path,
        rounds=ROUNDS,
        participations=ROUNDS,
        cohort=msgspec.structs.replace(base.cohort, target=COHORT, minimum=COHORT),
    )
    plan, directory = made.plan, made.directory
    rng = random.Random(11)
    processes = forks(__name__)
    kills, ending = 0, None
    while ending is None:
        receiver, sender = processes.Pipe(duplex=False)
        child = processes.Process(
            target=run_to_be_killed, args=(directory.plan, tmp_path, NODES, sender)
        )
        child.start()
        sender.close()
        if kills < KILLS:
            for _ in range(rng.randint(0, 3)):
                receiver.recv()
            time.sleep(rng.uniform(0, 0.01))
            child.kill()
            child.join(timeout=60)
            assert child.exitcode == -signal.SIGKILL
            kills += 1
        else:
            while not isinstance(ending, Ending):
                ending = receiver.recv()
            child.join(timeout=60)
            assert child.exitcode == 0
        receiver.close()

    receipts = read_receipts(directory.receipts)
    with open_ledger(made.home.population_database) as ledger:
        attempts = ledger.attempts(plan.hash)
        spent = sum(ledger.spent_nano_rho(subject(n)) for n in range(1, NODES + 1))
    paid = [a for a in attempts if a.state is not AttemptState.VOID]
    released = [a for a in attempts if a.state is AttemptState.RELEASED]

    # It completed: each round was released once, in order, and nothing is left open.
    assert ending is Ending.ROUNDS_REACHED
    assert {a.state for a in paid} == {AttemptState.RELEASED, AttemptState.LOST}
    assert [a.key.round for a in released] == list(range(1, ROUNDS + 1))
    # No message left before its attempt was charged.
    witnessed = [json.loads(line) for line in (tmp_path / "witness.jsonl").read_text().splitlines()]
    assert all(charged for *_, charged in witnessed)
    assert {(r, a) for r, a, *_ in witnessed} <= {(a.key.round, a.key.attempt) for a in paid}
    # No device was asked twice under one charge.
    assert max(Counter((r, a, n) for r, a, n, _ in witnessed).values()) == 1
    # Budgets are exactly the charges.
    assert all(a.subjects == COHORT and a.cost_nano_rho == plan.cost_nano_rho for a in paid)
    assert spent == plan.cost_nano_rho * COHORT * len(paid)
    # One receipt for each paid attempt, and it tells how that ended.
    assert Counter((r.round, r.attempt) for r in receipts) == Counter(
        (a.key.round, a.key.attempt) for a in paid
    )
    outcomes = {(a.key.round, a.key.attempt): a.state.value for a in paid}
    assert all(r.outcome.value == outcomes[r.round, r.attempt] for r in receipts)
    # The model is the initial one moved once for each released round, and each receipt's hash
    # is that of the model after it.
    model = read_initial(directory, plan).model
    total = COHORT * constant_update(plan).astype(np.int64)
    state = optimizer.OptimizerState()
    for receipt in (r for r in receipts if r.outcome is Outcome.RELEASED):
        delta, state = optimizer.step(plan.optimizer, state, decode_mean(total, plan))
        model = optimizer.apply(plan.model, model, delta)
        assert receipt.model_sha256 == model_sha256(model)
    checkpoint = read_checkpoint(directory.checkpoint, plan)
    assert checkpoint.round == ROUNDS
    np.testing.assert_array_equal(checkpoint.model, model)

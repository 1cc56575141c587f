"""Processes that share a ledger: racing for the last unit, opening it at once, being killed."""

from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

from forks import forks
from ledgers import PLAN, Books, charge
from tacitly_common.errors import BudgetExceededError
from tacitly_simulations.bench.ledger_kills import Place, run


def race(books: Books, rounds: int, barrier: Barrier, results: Connection) -> None:
    won = []
    with books.open() as ledger:
        for r in range(1, rounds + 1):
            key = ledger.plan(PLAN, r)
            barrier.wait(timeout=60)
            try:
                won.append(charge(ledger, key, [f"{r:064x}"], cost=10, cap=10))
            except BudgetExceededError:
                won.append(False)
    results.send(won)


def test_of_two_processes_exactly_one_gets_the_last_unit(books: Books) -> None:
    rounds = 30
    books.open().close()
    assert books.witness.public_key  # the key is there before both look
    processes = forks(__name__)
    barrier = processes.Barrier(2)
    pipes = [processes.Pipe(duplex=False) for _ in range(2)]
    children = [processes.Process(target=race, args=(books, rounds, barrier, s)) for _, s in pipes]
    for child in children:
        child.start()
    for _, sender in pipes:
        sender.close()
    first, second = (receiver.recv() for receiver, _ in pipes)
    for child in children:
        child.join(timeout=60)
    assert [a + b for a, b in zip(first, second, strict=True)] == [1] * rounds
    with books.open() as ledger:
        assert [ledger.spent_nano_rho(f"{r:064x}") for r in range(1, rounds + 1)] == [10] * rounds
    assert books.problems() == []


def overlap(books: Books, order: int, rounds: int) -> None:
    subjects = [f"{i:064x}" for i in range(40)][::order]
    with books.open() as ledger:
        for r in range(1, rounds + 1):
            charge(ledger, ledger.plan(PLAN, r), subjects, cap=10**6)


def test_writers_of_the_same_subjects_do_not_block_each_other_for_good(books: Books) -> None:
    processes, rounds = forks(__name__), 15
    with books.open():
        children = [
            processes.Process(target=overlap, args=(books, order, rounds)) for order in (1, -1, 2)
        ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=120)
    assert [child.exitcode for child in children] == [0] * 3
    with books.open() as ledger:
        assert ledger.spent_nano_rho(f"{0:064x}") == 3 * rounds * 10
        assert ledger.spent_nano_rho(f"{1:064x}") == 2 * rounds * 10
    assert books.problems() == []


def open_new(books: Books, barrier: Barrier) -> None:
    barrier.wait(timeout=60)
    with books.open() as ledger:
        ledger.plan(PLAN, 1)


def test_processes_may_create_the_ledger_together(books: Books) -> None:
    assert books.witness.public_key
    processes = forks(__name__)
    barrier = processes.Barrier(4)
    children = [processes.Process(target=open_new, args=(books, barrier)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=60)
    assert [child.exitcode for child in children] == [0] * 4
    with books.open() as ledger:
        assert [a.key.attempt for a in ledger.attempts(PLAN)] == [1, 2, 3, 4]


def test_killed_writers_and_restores_leave_a_ledger_that_is_true(
    books: Books, tmp_path: Path
) -> None:
    outcome = run(Place(books.where, tmp_path), kills=36, seed=7)
    assert outcome.problems == []
    assert outcome.kills >= 36
    assert outcome.restores >= 1
    assert outcome.charged > 0

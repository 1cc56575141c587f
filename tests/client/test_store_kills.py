"""The store under SIGKILL: nothing that was stored is lost, no erasure stays half done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from killed import killed_before
from store_acts import (
    append,
    erase_a_day_from_its_second_key_on,
    erase_application,
    expire_trained,
    only_open,
    three_days,
    two_former_days,
)
from tacitly_client.store import EventStore, StoreError
from tacitly_client.store.erasure import is_pending
from tacitly_client.store.layout import Vault
from tacitly_client.store.segment import read_segment
from tacitly_simulations.bench.store_kills import Place, run


def keys(store: Path) -> str:
    with EventStore.open(store) as opened:
        return "".join(event.key for event in opened.events())


def assert_opens_nothing(store: Path, copy: Path) -> None:
    """No key that is left opens a segment of a copy that was made before."""
    vault = Vault.of(store)
    for path in copy.glob("segments/*/*.seg"):
        with pytest.raises(StoreError, match="not there"):
            list(read_segment(path, vault.key, lambda _damage: None))


@pytest.mark.parametrize(
    ("make", "act", "before", "after"),
    [
        (three_days, append, "abcduxevyfwzghi", "abcduxevyfwzghijkl"),
        (three_days, erase_a_day_from_its_second_key_on, "abcduxevyfwzghi", "abcduxhi"),
        (three_days, erase_application, "abcduxevyfwzghi", ""),
        (three_days, expire_trained, "abcduxevyfwzghi", "ghi"),
        (two_former_days, only_open, "abcdef", "abcdef"),
    ],
)
def test_killed_at_any_step_it_is_as_before_or_gets_done_at_the_next_opening(
    tmp_path: Path,
    make: Callable[[Path], None],
    act: Callable[[Path], None],
    before: str,
    after: str,
) -> None:
    made = tmp_path / "made"
    make(made)
    kills, killed = 0, True
    while killed:
        store = tmp_path / str(kills)
        shutil.copytree(made, store)
        killed = killed_before(kills, act, store)
        begun = is_pending(store)
        # Which of two segments is read first is chance, where their times are the same.
        found = sorted(keys(store))
        assert found == sorted(after) or (killed and not begun and found == sorted(before))
        assert not is_pending(store)
        assert len(list(store.glob("*.key"))) == 1
        assert not [*store.rglob("*.part")]
        if act is not append and (begun or not killed):
            assert_opens_nothing(store, made)
        kills += killed
    assert kills >= 5


def test_killed_at_random_it_holds_what_it_said(tmp_path: Path) -> None:
    outcome = run(Place(tmp_path), kills=15, seed=1)
    assert outcome.problems == []
    assert outcome.kills == 30
    assert outcome.stored > 0

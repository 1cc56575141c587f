import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plans import small_plan
from tacitly_client.training.windows import split_by_time, training_windows, windows_of_days
from tacitly_common.vocabulary import START

TOKENS = st.lists(st.integers(0, 5), max_size=60).map(lambda xs: np.array(xs, dtype=np.int64))


def record(**changes):
    return msgspec.structs.replace(small_plan().record, **changes)


@given(TOKENS, st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_the_parts_are_the_stream_and_the_older_has_its_share(tokens, held_out):
    older, newer = split_by_time(tokens, held_out)
    assert (np.concatenate([older, newer]) == tokens).all()
    predicted = int((tokens != START).sum())
    assert (older != START).sum() == int((1 - held_out) * predicted)


def test_a_session_start_goes_with_the_token_after_it():
    older, newer = split_by_time(np.array([0, 3, 4, 5, 6, 0, 7, 8]), 0.33)
    assert older.tolist() == [0, 3, 4, 5, 6]
    assert newer.tolist() == [0, 7, 8]


def test_a_row_is_start_and_consecutive_tokens_and_the_last_is_filled_up():
    rows = training_windows(np.arange(1, 11), record(window_tokens=4))
    assert rows.tolist() == [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8], [0, 9, 10, 0, 0]]
    assert rows.dtype == np.int64


@given(TOKENS, st.integers(2, 7))
def test_every_token_lies_in_exactly_one_record(tokens, length):
    rows = training_windows(tokens, record(window_tokens=length, max_windows=1_000))
    assert (rows[:, 0] == START).all()
    inside = rows[:, 1:].ravel()
    assert inside[inside != START].tolist() == tokens[tokens != START].tolist()


def test_only_the_newest_windows_are_kept():
    rows = training_windows(np.arange(1, 11), record(window_tokens=2, max_windows=2))
    assert rows.tolist() == [[0, 7, 8], [0, 9, 10]]


@given(TOKENS, TOKENS)
def test_later_events_leave_full_records_as_they_are(tokens, later):
    mechanism = record(window_tokens=5, max_windows=1_000)
    full = len(tokens) // 5
    before = training_windows(tokens, mechanism)[:full]
    after = training_windows(np.concatenate([tokens, later]), mechanism)[: len(before)]
    assert (before == after).all()


@pytest.mark.parametrize("tokens", [[], [0], [0, 0, 0]])
def test_a_stream_without_predictions_has_no_records(tokens):
    assert training_windows(np.array(tokens, dtype=np.int64), record()).shape == (0, 9)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(2, 8), st.integers(0, 4))
def test_days_that_expire_move_no_other_days_records(lengths, length, expired):
    ends = np.cumsum([0, *lengths]) + 1  # every token occurs once
    days = [np.arange(start, end) for start, end in itertools.pairwise(ends)]
    mechanism = record(window_tokens=length, max_windows=1_000)
    own = {tuple(row) for day in days for row in training_windows(day, mechanism)}
    for left in (days, days[expired:]):
        rows = [tuple(row) for row in windows_of_days(left, mechanism)]
        assert {row for row in rows if START not in row[1:]} <= own
        assert [token for row in rows for token in row if token != START] == (
            split_by_time(np.concatenate(left))[0].tolist() if left else []
        )


def test_no_record_reaches_over_midnight():
    days = [np.full(5, 1, dtype=np.int64), np.full(5, 2, dtype=np.int64)]
    rows = windows_of_days(days, record(window_tokens=4))
    assert rows[:, 1:].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0], [2, 2, 2, 0]]


def test_without_a_day_there_is_no_record():
    assert windows_of_days([], record(window_tokens=4)).shape == (0, 5)

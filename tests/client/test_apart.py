"""Redaction in a process of its own judges as redaction does, and leaves nothing behind."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacitly_client.capture import apart
from tacitly_client.capture.apart import redact_apart
from tacitly_client.redaction import BACKSPACE, DELETED, ContentLevel, redact

# Of Python 3.12 on: pytest's workers have threads, the capture process has none.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

KEYS = st.lists(st.sampled_from(["a", "é", "Ж", "7", " ", "@", BACKSPACE, DELETED]), max_size=40)


@settings(deadline=None)  # a process each
@given(keys=KEYS, level=st.sampled_from(ContentLevel), begins=st.booleans(), ends=st.booleans())
def test_it_judges_as_redaction_does(
    keys: list[str], level: ContentLevel, begins: bool, ends: bool
) -> None:
    apart_judged = redact_apart(keys, level, begins=begins, ends=ends)
    assert apart_judged == redact(keys, level, begins=begins, ends=ends)


def test_what_could_not_be_judged_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", full)
    assert redact_apart("it is", ContentLevel.CHARACTERS) is None


def test_a_judge_that_is_killed_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    redact_apart("it is", ContentLevel.CHARACTERS)  # what it loads is loaded
    monkeypatch.setattr(
        apart, "redact", lambda *_args, **_options: os.kill(os.getpid(), signal.SIGKILL)
    )
    assert redact_apart("it is", ContentLevel.CHARACTERS) is None


def test_neither_processes_nor_descriptors_are_left() -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    def processes() -> set[int]:
        return {child.pid for child in psutil.Process().children()}  # also those that have ended

    before = descriptors(), processes()
    for _ in range(20):
        redact_apart("it is", ContentLevel.CHARACTERS)
    assert (descriptors(), processes()) == before

"""Nothing that is typed into a secret field is stored, by real applications on a real display.

A short form of the trials in `tests/trials`; docs/endpoint-trials.md has the long ones. Each guard
is switched off once, and must be missed.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tacitly_client.home import AgentHome
from trials import trial
from trials.browsers import browser
from trials.desktop import Desktop, Form, desktop, form
from trials.search import files_with, image_of, is_spelled_in
from trials.typist import Captured, capturing, type_text
from x_display import need, wait_for

FAST = 0.002
PACES = (FAST, 0.03)
PLAIN = "letter is on the table"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desktop]:
    with desktop(tmp_path_factory.mktemp("desktop")) as started:
        yield started


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return AgentHome(tmp_path / "home")


def type_until_stored(running: Desktop, target: Form, captured: Captured) -> None:
    """Plain words are stored; on a slow machine not those that were typed before the field was
    known, but those that are typed later."""

    def stored() -> bool:
        trial.into_plain(running, target, 0.03)
        return PLAIN in "".join(captured.keys())

    wait_for(stored, "plain words are stored")


@pytest.mark.parametrize("kind", ["gtk", "qt"])
@pytest.mark.parametrize("move", [trial.by_tab, trial.by_script])
def test_a_password_is_not_stored_and_what_is_plain_is(
    running: Desktop, home: AgentHome, kind: str, move: trial.Move
) -> None:
    with form(running, kind) as target, capturing(home, running, "form") as captured:
        for pace in PACES:
            assert trial.CANARY in trial.into_secret(running, target, pace, move)
        type_until_stored(running, target, captured)
    assert trial.leaked(captured.keys()) == []


def to_dots(_running: Desktop, target: Form) -> None:
    target.focus("dots")


def test_a_home_made_password_field_is_unknown(running: Desktop, home: AgentHome) -> None:
    with form(running, "gtk") as target, capturing(home, running, "form") as captured:
        for pace in PACES:
            assert trial.into_secret(running, target, pace, to_dots, "dots") == trial.CANARY
    assert trial.leaked(captured.keys()) == []


def test_an_application_that_tells_nothing_is_unknown(running: Desktop, home: AgentHome) -> None:
    with form(running, "tk") as target, capturing(home, running, "form") as captured:
        for pace in PACES:
            assert trial.into_secret(running, target, pace) == trial.CANARY
    keys = captured.keys()
    assert trial.leaked(keys) == []
    assert "<letter>" in keys  # its classes are stored


def test_nothing_is_stored_of_a_terminals_keys(running: Desktop, home: AgentHome) -> None:
    need("xterm")
    with capturing(home, running) as captured:
        for beyond_ssh in (False, True):
            answer = trial.at_a_prompt(running, 0.012, beyond_ssh=beyond_ssh)
            assert answer.rstrip("\n") == trial.CANARY
    assert captured.keys() == []


def test_in_a_browser_with_the_extension_a_password_is_not_stored_and_what_is_plain_is(
    running: Desktop, home: AgentHome
) -> None:
    with (
        capturing(home, running, "chromium") as captured,
        browser(running, "chromium", home) as page,
    ):
        for move in (trial.by_tab, trial.by_script):
            assert trial.CANARY in trial.into_secret(running, page, FAST, move)
        assert trial.CANARY in trial.into_secret(running, page, FAST, to_dots, "dots")
        type_until_stored(running, page, captured)
    assert trial.leaked(captured.keys()) == []


def test_nothing_is_stored_of_a_private_window_or_without_the_extension(
    running: Desktop, home: AgentHome
) -> None:
    with capturing(home, running, "chromium") as captured:
        with browser(running, "chromium", home, private=True) as page:
            assert trial.into_plain(running, page, 0.012) == trial.PLAIN
        with browser(running, "chromium", None) as page:
            assert trial.into_plain(running, page, 0.012) == trial.PLAIN
    assert captured.keys() == []


def test_nothing_is_stored_of_a_grabbed_keyboard(running: Desktop, home: AgentHome) -> None:
    with form(running, "gtk") as target, capturing(home, running, "form") as captured:
        assert trial.under_a_grab(running, target, 0.012) == trial.CANARY
    assert captured.keys() == []


def test_nothing_is_stored_of_an_excluded_application(running: Desktop, home: AgentHome) -> None:
    with (
        form(running, "gtk") as target,
        capturing(home, running, "form", excluded=["form"]) as captured,
    ):
        running.person.click()
        assert trial.into_plain(running, target, 0.012, trial.CANARY) == trial.CANARY
    assert captured.events() == []


def test_secrets_typed_in_the_open_are_not_stored(running: Desktop, home: AgentHome) -> None:
    with form(running, "gtk") as target, capturing(home, running, "form") as captured:
        type_until_stored(running, target, captured)
        typed = trial.in_the_open(running, target, 0.012, list(trial.SHAPES))
        assert all(secret in typed for secret in trial.SHAPES.values())
    for secret in trial.SHAPES.values():
        assert trial.leaked(captured.keys(), secret) == []


def leak_into_secret(running: Desktop, target: Form) -> None:
    trial.into_secret(running, target, FAST)


def leak_under_a_script(running: Desktop, target: Form) -> None:
    """The focus is moved, and that is told late."""
    trial.begin(target)
    with running.accessibility_stalled():
        target.focus("password")
        type_text(running.person, trial.CANARY, FAST)
        time.sleep(1.5)


def leak_in_the_open(running: Desktop, target: Form) -> None:
    trial.in_the_open(running, target, FAST, ["mail"])


@pytest.mark.parametrize(
    ("guard", "kind", "leak", "secret"),
    [
        ("gate", "tk", leak_into_secret, trial.CANARY),
        ("hold", "gtk", leak_under_a_script, trial.CANARY),
        ("redaction", "gtk", leak_in_the_open, trial.SHAPES["mail"]),
    ],
)
def test_each_guard_is_missed(
    running: Desktop,
    tmp_path: Path,
    guard: str,
    kind: str,
    leak: Callable[[Desktop, Form], None],
    secret: str,
) -> None:
    """Of two that see the same, the one without it stores the secret; on a slow machine not the
    first time."""
    guarded, unguarded = AgentHome(tmp_path / "guarded"), AgentHome(tmp_path / "unguarded")
    with (
        form(running, kind) as target,
        capturing(guarded, running, "form") as captured,
        capturing(unguarded, running, "form", without=guard) as missing,
    ):

        def is_missed() -> bool:
            leak(running, target)
            return trial.leaked(missing.keys(), secret) != []

        wait_for(is_missed, "the secret is stored without the guard")
        time.sleep(trial.LEAK_SECONDS)
    assert trial.leaked(captured.keys(), secret) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="the process's own user may not see its memory")
def test_neither_files_nor_memory_keep_a_secret(
    running: Desktop, home: AgentHome, tmp_path: Path
) -> None:
    """Not even an image of the memory, which root can take, has the text."""
    need("gcore")
    with form(running, "gtk") as target, capturing(home, running, "form") as captured:
        for move in (trial.by_tab, trial.by_script):
            trial.into_secret(running, target, FAST, move)
        trial.in_the_open(running, target, FAST, ["card", "hex", "mail"])
        image = image_of(captured.process.pid, tmp_path / "image")
    searched = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".seg" for path in searched)
    for secret in (trial.CANARY, *(trial.SHAPES[shape] for shape in ("card", "hex", "mail"))):
        assert files_with(secret.split()[0], searched) == []
    assert not is_spelled_in(image, trial.CANARY)


def test_a_crash_leaves_no_core(running: Desktop, home: AgentHome) -> None:
    def crash() -> None:
        with capturing(home, running) as captured:
            status = Path(f"/proc/{captured.process.pid}")
            # To whom a process belongs that its own user may not dump.
            assert (status / "environ").stat().st_uid == 0
            os.kill(captured.process.pid, signal.SIGABRT)
            captured.process.wait(20)

    with pytest.raises(AssertionError, match="capturing"):
        crash()
    assert not list(home.root.rglob("core*"))

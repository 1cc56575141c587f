"""What is typed in a trial, and where. After each, as long a pause as lets a leak be stored.

A canary is two whole words: of a word that is cut redaction keeps nothing, and the gate could
leak unseen behind it. No letter of it is in the plain text, and each is in it once.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from trials.desktop import Desktop, Form
from trials.typist import type_text

PACES: Final = (0.002, 0.012, 0.03, 0.08)
PLAIN: Final = "the letter is on the table "
CANARY: Final = "jkqv wxyz "
# What redaction has to know. Letters of each are counted where the plain text has none of them.
SHAPES: Final = {
    "card": "4539 1488 0343 6467 ",
    "iban": "GB82 WEST 1234 5698 7654 32 ",
    "ssn": "078-05-1120 ",
    "mail": "jqk.vwyz@example.org ",
    "github": "ghp_qzJKvwXYqzjkVW00qzjkvwxyQZJKvwxyqzjk ",
    "aws": "AKIAQZJKVWXYQZJKVWXY ",
    "jwt": "eyJqzkvw.eyJqzvkwx.QZJKvwxy_qzjk ",
    "hex": "f3a9c1d27b8e40561f2d ",
    "mixed": "Qzjkv2026!xw ",
}
# Longer than the hold-back and a question to the field after it.
LEAK_SECONDS: Final = 2.8

Move = Callable[[Desktop, Form], None]


def by_tab(running: Desktop, _form: Form) -> None:
    """The person moves on to the next field."""
    running.person.press("Tab")


def by_script(_running: Desktop, form: Form) -> None:
    """The program moves the focus under the person's hands."""
    form.focus("password")


def begin(form: Form) -> None:
    """Into the name, from elsewhere: a field that had the focus all along tells nobody of it."""
    form.clear()
    form.focus("password")
    time.sleep(0.2)
    form.focus("name")
    time.sleep(1.2)


def into_secret(running: Desktop, form: Form, pace: float, move: Move = by_tab) -> str:
    """Plain text into the name, a canary into the password; what the password then was."""
    begin(form)
    type_text(running.person, PLAIN, pace)
    move(running, form)
    type_text(running.person, CANARY, pace)
    time.sleep(LEAK_SECONDS)
    return form.values()["password"]


def into_plain(running: Desktop, form: Form, pace: float) -> None:
    """Plain text into the name, and nothing after it."""
    begin(form)
    type_text(running.person, PLAIN, pace)
    time.sleep(LEAK_SECONDS)


def in_the_open(running: Desktop, form: Form, pace: float, shapes: Sequence[str]) -> None:
    """Secrets between plain words, in the name."""
    begin(form)
    for shape in shapes:
        type_text(running.person, f"{PLAIN}{SHAPES[shape]}", pace)
    type_text(running.person, PLAIN, pace)
    time.sleep(LEAK_SECONDS)


def under_a_grab(running: Desktop, form: Form, pace: float) -> None:
    """A canary while another program has the keyboard to itself, as a locker does."""
    begin(form)
    running.person.grab(running.person.root)
    type_text(running.person, CANARY, pace)
    running.person.ungrab()
    time.sleep(LEAK_SECONDS)


def at_a_prompt(running: Desktop, pace: float) -> None:
    """A canary at a password prompt as ssh has it: in an xterm, without echo."""
    script = 'printf "ada@host password: "; stty -echo; read -r answer; sleep 1'
    with running.start("xterm", "-e", "sh", "-c", script) as xterm:
        time.sleep(1.5)
        type_text(running.person, CANARY, pace)
        running.person.press("Enter")
        time.sleep(LEAK_SECONDS)
        with suppress(subprocess.TimeoutExpired):
            xterm.wait(5)


def leaked(keys: Sequence[str], secret: str = CANARY) -> list[str]:
    """The characters of a secret among stored keys that no plain text explains."""
    telling = {c for c in secret if not c.isspace()} - set(PLAIN)
    return [key for key in keys if key in telling]

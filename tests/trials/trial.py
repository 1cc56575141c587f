"""What is typed in a trial, and where. After each, as long a pause as lets a leak be stored.

Each returns what the application then had, to tell a secret that was kept from one never typed.

A canary is two whole words: of a word that is cut redaction keeps nothing, and the gate could
leak unseen behind it. No letter of it is in the plain text, and each is in it once.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from trials.desktop import Desktop, Form
from trials.typist import type_text
from x_display import wait_for

PACES: Final = (0.002, 0.012, 0.03, 0.08)
PLAIN: Final = "the letter is on the table "
CANARY: Final = "jkqv wxyz "
# What redaction has to know. Letters of each are counted where the plain text has none of them.
SHAPES: Final = {
    "card": "4539 1488 0343 6467 ",
    "iban": "GB82 WEST 1234 5698 7654 32 ",
    "ssn": "212-34-7785 ",
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


def into_secret(
    running: Desktop, form: Form, pace: float, move: Move = by_tab, field: str = "password"
) -> str:
    """Plain text into the name, a canary into a secret field."""
    begin(form)
    type_text(running.person, PLAIN, pace)
    move(running, form)
    type_text(running.person, CANARY, pace)
    time.sleep(LEAK_SECONDS)
    return form.values()[field]


def into_plain(running: Desktop, form: Form, pace: float, text: str = PLAIN) -> str:
    """Text into the name, and nothing after it."""
    begin(form)
    type_text(running.person, text, pace)
    time.sleep(LEAK_SECONDS)
    return form.values()["name"]


def in_the_open(running: Desktop, form: Form, pace: float, shapes: Sequence[str]) -> str:
    """Secrets between plain words, in the name."""
    between = "".join(f"{PLAIN}{SHAPES[shape]}" for shape in shapes)
    return into_plain(running, form, pace, between + PLAIN)


def under_a_grab(running: Desktop, form: Form, pace: float) -> str:
    """A canary while another program has the keyboard to itself, as a locker does."""
    begin(form)
    running.person.grab(running.person.root)
    type_text(running.person, CANARY, pace)
    running.person.ungrab()
    time.sleep(LEAK_SECONDS)
    return running.person.typed() + form.values()["name"]


def at_a_prompt(running: Desktop, pace: float, *, beyond_ssh: bool = False) -> str:
    """A canary at a password prompt in an xterm: as ssh or sudo show it here, without echo, or as
    another machine shows it beyond ssh, which here is a terminal that passes on each key."""
    mode, read = ("raw -echo", f"head -c {len(CANARY)}") if beyond_ssh else ("-echo", "head -n 1")
    script = f'printf "ada@host password: "; stty {mode}; {read} > "$HOME/answer"; sleep 1'
    answer = Path(running.environ["HOME"], "answer")
    answer.unlink(missing_ok=True)
    before = running.person.focused()
    with running.start("xterm", "-e", "sh", "-c", script) as xterm:
        wait_for(lambda: answer.exists() and running.person.focused() != before)
        type_text(running.person, CANARY, pace)
        if not beyond_ssh:
            running.person.press("Enter")
        time.sleep(LEAK_SECONDS)
        xterm.kill()  # it has its answer, or never gets it
    return answer.read_text()


def leaked(keys: Sequence[str], secret: str = CANARY) -> list[str]:
    """The characters of a secret among stored keys that no plain text explains."""
    telling = {c for c in secret if not c.isspace()} - set(PLAIN)
    return [key for key in keys if key in telling]

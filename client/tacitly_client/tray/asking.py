"""Asks for consent: once for each text, in a window with two equal buttons, else in a terminal.

Closing the window is no consent, and nobody but this machine learns of it. Whoever was asked is
not asked again until there is something else to ask; the menu offers it.
"""

import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from tacitly_client.asking import agree, capture_asked, chosen_in_words
from tacitly_client.consent import Asked, consent_stands, read_receipts
from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, words
from tacitly_common.errors import TacitlyError

_AGREED: Final = 0
_TERMINALS: Final = ("x-terminal-emulator", "gnome-terminal", "konsole", "xfce4-terminal", "xterm")
# The window closes when the command ends; what it said should be read first.
_STAY: Final = '"$@"; printf "\\n[Enter]"; read -r _'


def command(*arguments: str, home: AgentHome) -> list[str]:
    """The agent's command line."""
    return [sys.executable, "-m", "tacitly_client", *arguments, "--home", str(home.root)]


def open_terminal(line: list[str]) -> None:
    """Run a command in a terminal of the desktop; where there is none, nothing happens."""
    found = next((path for name in _TERMINALS if (path := shutil.which(name))), None)
    if found is not None:
        separator = "--" if found.endswith("gnome-terminal") else "-e"
        # Of no concern to us once it is there, and not to end with us.
        run = [found, separator, "sh", "-c", _STAY, "sh", *line]
        threading.Thread(target=subprocess.run, args=(run,), daemon=True).start()


class Asking:
    """The question, open or not."""

    def __init__(self, home: AgentHome, language: Language) -> None:
        self._home = home
        self._language = language
        self._asked: Asked | None = None
        self._window: subprocess.Popen[bytes] | None = None

    def once(self) -> None:
        """Ask, unless this person has agreed, has withdrawn, or was asked just this before."""
        if consent_stands(self._home) is not None or self._has_withdrawn():
            return
        asked = self._question()
        with suppress(OSError):
            if asked is not None and self._home.asked.read_text("utf-8") == _shown(asked):
                return
        self.ask()

    def ask(self) -> None:
        """Open the question, unless it is open or there is nothing to ask yet."""
        asked = self._question()
        if self._window is not None or asked is None:
            return
        write_whole(self._home.asked, _shown(asked).encode())
        if (zenity := shutil.which("zenity")) is None:
            open_terminal(command("consent", "give", home=self._home))
            return
        said = words(asked.language)
        self._asked = asked
        self._window = subprocess.Popen(
            [
                zenity, "--text-info", "--filename", str(self._home.asked), "--title", said.title,
                "--ok-label", said.agree, "--cancel-label", said.refuse,
                "--font", "monospace 10", "--width", "760", "--height", "720",
            ]
        )  # fmt: skip

    def look(self) -> None:
        """Note the answer if one was given."""
        if self._window is None or (code := self._window.poll()) is None:
            return
        self._window = None
        if code == _AGREED and self._asked is not None:
            agree(self._home, self._asked, now=datetime.now(UTC))

    def close(self) -> None:
        """Close the window; nobody has agreed to anything."""
        if self._window is not None:
            self._window.kill()
            self._window.wait()
            self._window = None

    def _question(self) -> Asked | None:
        try:
            return capture_asked(self._home, self._language)
        except TacitlyError:
            return None  # not enrolled, or the organisation has yet to say something

    def _has_withdrawn(self) -> bool:
        with suppress(TacitlyError, OSError):
            captures = [each for each in read_receipts(self._home) if each.plan_hash is None]
            return bool(captures) and not captures[-1].stands
        return False


def _shown(asked: Asked) -> str:
    return f"{asked.text}\n{chosen_in_words(asked)}\n{words(asked.language).question}\n"

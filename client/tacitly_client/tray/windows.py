"""Windows that a person reads: the question for consent, and what is stored. Shown by zenity.

The question comes once for each text, with two equal buttons. Closing it is no consent, and nobody
but this machine learns of it. Whoever was asked is not asked again until there is something else to
ask; the menu offers it. Where there is no zenity the commands do the same: `tacitly-agent consent
give` and `tacitly-agent show`.
"""

import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from tacitly_client.asking import agree, capture_asked, chosen_in_words
from tacitly_client.consent import Asked, consent_stands, read_receipts
from tacitly_client.files import write_whole
from tacitly_client.home import AgentHome
from tacitly_client.notice import Language, words
from tacitly_common.errors import TacitlyError
from tacitly_common.processes import end_with_parent

_AGREED: Final = 0

log = logging.getLogger(__name__)
_READING: Final = ("--text-info", "--font", "monospace 10", "--width", "720", "--height", "760")


class Windows:
    """Both windows, open or not."""

    def __init__(self, home: AgentHome, language: Language) -> None:
        self._home = home
        self._language = language
        self._zenity = shutil.which("zenity")
        self._asked: Asked | None = None
        self._question: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def ask_once(self) -> None:
        """Ask, unless this person has agreed, has withdrawn, or was asked just this before."""
        if consent_stands(self._home) is not None or self._has_withdrawn():
            return
        asked = self._to_ask()
        with suppress(OSError):
            if asked is not None and self._home.asked.read_text("utf-8") == _shown(asked):
                return
        self.ask()

    def ask(self) -> None:
        """Open the question, unless it is open or there is nothing to ask yet."""
        asked = self._to_ask()
        if self._question is not None or asked is None or self._zenity is None:
            return
        write_whole(self._home.asked, _shown(asked).encode())
        said = words(asked.language)
        # Without the box the Enter of somebody who is typing as it opens would be an answer.
        buttons = ("--checkbox", said.read, "--ok-label", said.agree, "--cancel-label", said.refuse)
        text = ("--title", said.title, "--filename", str(self._home.asked))
        self._asked = asked
        self._question = _started([self._zenity, *_READING, *text, *buttons])

    def show_stored(self) -> None:
        """Show what `tacitly-agent show` says. It goes through a pipe, not through a file."""
        if self._zenity is None:
            return
        agent = [sys.executable, "-P", "-m", "tacitly_client"]
        says = _started(
            [*agent, "show", "--home", str(self._home.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said = words(self._language).tray
        window = ("--title", said.stored, "--ok-label", said.close)
        reads = _started([self._zenity, *_READING, *window], stdin=says.stdout)
        if says.stdout is not None:
            says.stdout.close()
        self._others += [says, reads]

    def look(self) -> None:
        """Note the answer if one was given."""
        self._others = [each for each in self._others if each.poll() is None]
        if self._question is None or (code := self._question.poll()) is None:
            return
        self._question = None
        if code == _AGREED and self._asked is not None:
            try:
                agree(self._home, self._asked, now=datetime.now(UTC))
            except (TacitlyError, OSError) as error:
                log.warning("consent was given and could not be kept, so it is none: %s", error)

    def close(self) -> None:
        """Close them; nobody has agreed to anything."""
        for each in [*self._others, *([self._question] if self._question else [])]:
            each.kill()
            each.wait()
        self._others, self._question = [], None

    def _to_ask(self) -> Asked | None:
        try:
            return capture_asked(self._home, self._language)
        except TacitlyError:
            return None  # not enrolled, or the organisation has yet to say something

    def _has_withdrawn(self) -> bool:
        with suppress(TacitlyError, OSError):
            captures = [each for each in read_receipts(self._home) if each.plan_hash is None]
            return bool(captures) and not captures[-1].stands
        return False


def _started(command: list[str], **streams: Any) -> subprocess.Popen[bytes]:
    """A program that ends with this process: nobody would hear what is answered to it later."""
    return subprocess.Popen(command, preexec_fn=partial(end_with_parent, os.getpid()), **streams)


def _shown(asked: Asked) -> str:
    return f"{asked.text}\n{chosen_in_words(asked)}\n{words(asked.language).question}\n"

"""What is to be shown, from the agent's files.

The capture process tells what it does; consent and pause are the person's words, and come first.

| shown         | when                                                                    |
|---------------|-------------------------------------------------------------------------|
| off           | no consent to capture stands                                            |
| paused        | the person has paused                                                   |
| capturing     | the capture process receives input now                                  |
| training      | it does not, and a model is trained; if it does, the words say both     |
| not receiving | consent stands and still nothing is received: no such process, a locked |
|               | screen, a desktop that is not supported                                 |
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tacitly_client.capture.clock import Clock
from tacitly_client.capture.state import Doing
from tacitly_client.consent import CaptureConsent, capture_consent
from tacitly_client.daemon.state import Training
from tacitly_client.files import Watch
from tacitly_client.home import AgentHome
from tacitly_client.now import read_now
from tacitly_client.pause import PauseState, read_pause

_RECEIVES: Final = (Doing.CAPTURING, Doing.NOT_STORING)


class Showing(StrEnum):
    """The states of the indicator; the names are those of the words in notices/words.toml."""

    CAPTURING = "capturing"
    TRAINING = "training"
    PAUSED = "paused"
    NOT_RECEIVING = "not_receiving"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class View:
    """How it is now. `why` says more where there is more to say, in words, without content."""

    showing: Showing
    consent: CaptureConsent
    pause: PauseState
    trains: bool
    why: str = ""


class Look:
    """Looks at one home, again and again."""

    def __init__(self, home: AgentHome, clock: Clock) -> None:
        self._home = home
        self._clock = clock
        files = (home.consent, home.contract, home.enrolment, home.choices)
        self._consent = Watch(lambda: capture_consent(home), *files)

    def __call__(self) -> View:
        """How it is now. Raises nothing."""
        consent, pause = self._consent(), read_pause(self._home, self._clock)
        now = read_now(self._home, self._clock)
        trains = now.training is Training.RUNNING
        showing, why = Showing.NOT_RECEIVING, now.reason or now.capture.value
        if consent.receipt is None:
            showing, why = Showing.OFF, consent.why_not
        elif pause.paused:
            showing, why = Showing.PAUSED, ""
        elif now.capture in _RECEIVES:
            showing, why = Showing.CAPTURING, now.reason
        elif trains:
            showing = Showing.TRAINING
        return View(showing, consent, pause, trains, why)

"""Whether the person has paused capture and training: `person/pause.json`.

A pause needs no process to begin, to last or to end: it is a file, which survives restarts. Who
permits capture reads it before each permission, and the node before each answer, which is then
that of a device whose person has joined nothing. In doubt, it is a pause: a file that cannot be
read is one until `resume`.

When a pause "for an hour" is over, two clocks decide, and both must say so:

| what happens to the clocks           | the wall clock says | monotonic time says | capture       |
|--------------------------------------|---------------------|---------------------|---------------|
| nothing                              | an hour             | an hour             | after an hour |
| the wall clock is set forwards       | over at once        | an hour             | after an hour |
| the wall clock is set backwards      | later               | an hour             | later         |
| the machine sleeps (not counted by   | an hour             | later               | later         |
| monotonic time)                      |                     |                     |               |
| the machine restarts (monotonic time | an hour             | nothing             | after an hour |
| begins anew, and says nothing)       |                     |                     |               |

So no clock makes a pause shorter than what was asked, but one set forwards across a restart; and
`resume` ends each at once.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from tacitly_client.capture.clock import Clock, boot_id
from tacitly_client.files import only_writer, write_whole
from tacitly_client.home import AgentHome
from tacitly_common.errors import UNDECODABLE
from tacitly_common.validation import positive

_LONGEST_SECONDS: Final = 366 * 86_400.0


class Pause(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: the person's last word.

    | field    | meaning                                                                      |
    |----------|------------------------------------------------------------------------------|
    | paused   | False: resumed                                                               |
    | since_ns | monotonic time of that word                                                  |
    | boot     | the start of the machine that `since_ns` and `over_ns` count from            |
    | until_ns | wall time at which the pause is over; None: only at `resume`                 |
    | over_ns  | the same in monotonic time                                                   |
    """

    paused: bool
    since_ns: int
    boot: str
    until_ns: int | None = None
    over_ns: int | None = None


@dataclass(frozen=True, slots=True)
class PauseState:
    """How it is now.

    `until_ns` is the wall time at which the pause will be over as far as is known now, None if
    only `resume` ends it. `since_ns` is the monotonic time of the last `pause` or `resume`: input
    from before it does not count; 0 if there was none since the machine started. The end of a
    pause that was for some time does not move it.
    """

    paused: bool
    until_ns: int | None = None
    since_ns: int = 0


def read_pause(home: AgentHome, clock: Clock) -> PauseState:
    """The state now. Raises nothing: what cannot be read is a pause."""
    try:
        told = msgspec.json.decode(home.pause.read_bytes(), type=Pause)
    except FileNotFoundError:
        return PauseState(paused=False)
    except (OSError, *UNDECODABLE):
        return PauseState(paused=True)
    now_ns = clock.monotonic_ns()
    # A time that is still to come is from an earlier start that could not be told apart.
    same_start = told.boot == boot_id() and told.since_ns <= now_ns
    since_ns = told.since_ns if same_start else 0
    if not told.paused:
        return PauseState(paused=False, since_ns=since_ns)
    if told.until_ns is None:
        return PauseState(paused=True, since_ns=since_ns)
    left_ns = told.until_ns - clock.wall_ns()
    if same_start and told.over_ns is not None:
        left_ns = max(left_ns, told.over_ns - now_ns)
    if left_ns <= 0:
        return PauseState(paused=False, since_ns=since_ns)
    return PauseState(paused=True, until_ns=clock.wall_ns() + left_ns, since_ns=since_ns)


def pause(home: AgentHome, clock: Clock, seconds: float | None = None) -> PauseState:
    """Pause capture, for some time or until `resume`; durable on return. The state since then.

    A pause replaces the one before it, also a longer one.

    Raises:
        ValidationError: `seconds` is not positive. Of more than a year a year is kept.
        OSError: it could not be written; capture goes on as before.
    """
    length_ns = None
    if seconds is not None:
        positive(seconds=seconds)
        length_ns = round(min(seconds, _LONGEST_SECONDS) * 1e9)
    now_ns = clock.monotonic_ns()
    _write(
        home,
        Pause(
            paused=True,
            since_ns=now_ns,
            boot=boot_id(),
            until_ns=None if length_ns is None else clock.wall_ns() + length_ns,
            over_ns=None if length_ns is None else now_ns + length_ns,
        ),
    )
    return read_pause(home, clock)


def resume(home: AgentHome, clock: Clock) -> PauseState:
    """End any pause. Capture goes on where consent stands; durable on return.

    Raises:
        OSError: it could not be written; the pause goes on.
    """
    _write(home, Pause(paused=False, since_ns=clock.monotonic_ns(), boot=boot_id()))
    return read_pause(home, clock)


def _write(home: AgentHome, told: Pause) -> None:
    home.create()
    with only_writer(home.pause):
        write_whole(home.pause, msgspec.json.encode(told))

"""Send messages to nodes and receive what they answer, one at a time.

Memory is that of the replies just arriving, whatever the number of nodes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid

from tacitly_server.aggregation.checks import Refusal
from tacitly_server.rounds.clock import Clock
from tacitly_server.rounds.pulls import Pulled, Pulls

# Few enough messages for one request; what they share is uploaded once for all of them.
_PUSH_BATCH: Final = 100
# Polling takes at most a fifth of the time: a pull costs SuperLink 5 to 10 ms of its one core.
_REST_PER_POLL: Final = 4
_MIN_REST_SECONDS: Final = 0.1
_MAX_REST_SECONDS: Final = 10.0
_SHARE_OF_ROUND: Final = 0.01


def send(grid: Grid, messages: Sequence[Message]) -> dict[str, int]:
    """Send them. The ids of the messages that SuperLink took, and their nodes."""
    taken: set[str] = set()
    for start in range(0, len(messages), _PUSH_BATCH):
        # A grid may leave out what it could not send, or put None in its place.
        taken.update(i for i in grid.push_messages(messages[start : start + _PUSH_BATCH]) if i)
    # Every grid writes the id it gives into the message, so order and gaps do not matter.
    return {
        message.metadata.message_id: message.metadata.dst_node_id
        for message in messages
        if message.metadata.message_id in taken
    }


def receive(
    grid: Grid,
    asked: dict[str, int],
    refusals: Counter[str],
    *,
    clock: Clock,
    until: float,
    go_on: Callable[[int], bool],
    most_rest_seconds: float = _MAX_REST_SECONDS,
) -> Iterator[tuple[int, Message]]:
    """The reply of each node that answers one of the messages `asked`, until `until`.

    1. Pull each message still unanswered; what is no reply to it is counted in `refusals`.
    2. Stop when all have answered, at the deadline, or when `go_on`, which is told how many are
       still to answer, says no. Those who have not are counted as NO_ANSWER.
    3. Rest, at most `most_rest_seconds`, and again.

    A late reply to an earlier message has no id here and is never pulled.
    """
    pulls = Pulls(grid)
    unanswered = dict(asked)
    while unanswered and go_on(len(unanswered)):
        began = clock.monotonic()
        if began >= until:
            break
        for message_id in asked:
            if message_id not in unanswered or clock.monotonic() >= until:
                continue
            for answered, pulled in pulls.pull(message_id):
                is_answered, reply = _reply_of(answered, pulled, refusals)
                if is_answered:
                    node_id = unanswered.pop(answered)
                    if reply is not None:
                        yield node_id, reply
        now = clock.monotonic()
        if unanswered and now < until:
            rest = max(_REST_PER_POLL * (now - began), _MIN_REST_SECONDS)
            clock.sleep(min(rest, most_rest_seconds, until - now))
    if unanswered:
        refusals[Refusal.NO_ANSWER] += len(unanswered)


def rest_between_phases(round_seconds: float) -> float:
    """How long to rest at the most where one exchange waits for another, in seconds.

    Each of a masked round's five ends up to a rest late.
    """
    return min(max(_SHARE_OF_ROUND * round_seconds, _MIN_REST_SECONDS), _MAX_REST_SECONDS)


def _reply_of(
    message_id: str, pulled: Pulled, refusals: Counter[str]
) -> tuple[bool, Message | None]:
    """Whether a pull answered one message, and with what, if that can be read."""
    if pulled is None:
        refusals[Refusal.UNREADABLE] += 1
        return True, None
    first: Message | None = None
    for reply in pulled:
        # SuperLink answers in the place of a node that is gone: only this id tells for whom.
        if first is not None or reply.metadata.reply_to_message_id != message_id:
            refusals[Refusal.UNASKED] += 1
            continue
        first = reply
    return first is not None, first


def array_bytes(message: Message) -> int:
    """How many bytes of arrays a message carries."""
    if not message.has_content():
        return 0
    records = (r for r in message.content.values() if isinstance(r, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())

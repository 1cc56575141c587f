"""A source that replays recorded events: JSON lines, one event each, in order of time.

It is how evaluators fill a store with public or synthetic data. Nothing is captured here.
"""

from collections.abc import Iterable, Iterator

from tacitly_common.errors import ValidationError
from tacitly_common.events import Event, from_json_line


def replay(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of the lines; blank lines are passed over.

    Raises:
        ValidationError: a line is not an event, or goes back in time. Names the line, never
            its content.
    """
    latest = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            event = from_json_line(line)
        except ValidationError as error:
            raise ValidationError(f"line {number}: {error}") from None
        if latest is not None and event.wall_ns < latest:
            raise ValidationError(f"line {number}: goes back in time; sort the lines by wall_ns")
        latest = event.wall_ns
        yield event

"""A store's segments by day: `segments/2026-11-23/<uuid>.seg`, a directory for each UTC day.

A segment that replaces another one, after part of that was erased, names it:
`<uuid>.<uuid it replaces>.seg`. Whichever moment a crash picks, one of the two counts and no
event doubles.
"""

import uuid
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from tacitly_common.errors import ValidationError
from tacitly_common.events import Event

DAY_NS: Final = 86_400 * 10**9
SEGMENTS: Final = "segments"
UNFINISHED: Final = ".part"
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


def day_of(event: Event) -> date:
    """The UTC day of an event.

    Raises:
        ValidationError: its wall_ns lies outside the years 1 to 9999.
    """
    return day_at(event.wall_ns)


def day_at(wall_ns: int) -> date:
    """The UTC day of a time; errors as of `day_of`."""
    # In integers: a float would round the day's last nanoseconds into the next day.
    try:
        return date.fromordinal(_EPOCH_DAY + wall_ns // DAY_NS)
    except (ValueError, OverflowError):
        raise ValidationError(
            "an event's wall_ns lies outside the years 1 to 9999; give nanoseconds since 1970"
        ) from None


def bounds_ns(day: date) -> tuple[int, int]:
    """When a UTC day begins and when the next one does."""
    start_ns = (day.toordinal() - _EPOCH_DAY) * DAY_NS
    return start_ns, start_ns + DAY_NS


def local_bounds_ns(day: date) -> tuple[int, int]:
    """The same for a day of the person's own calendar."""
    start, end = (
        datetime.combine(each, time.min).timestamp() for each in (day, day + timedelta(days=1))
    )
    return int(start) * 10**9, int(end) * 10**9


def day_directories(store: Path) -> list[tuple[date, Path]]:
    """Every day there is, in order."""
    paths = sorted((store / SEGMENTS).glob("[0-9]*-[0-9]*-[0-9]*"))
    return [(date.fromisoformat(path.name), path) for path in paths]


def live_segments(directory: Path) -> list[Path]:
    """A day's segments that count: those that no other one replaces."""
    paths = sorted(directory.glob("*.seg"))
    replaced = {path.name.split(".")[1] for path in paths if path.name.count(".") == 2}
    return [path for path in paths if path.name.split(".")[0] not in replaced]


def leftovers(directory: Path) -> list[Path]:
    """A day's files that do not count: replaced segments, and unfinished replacements."""
    unfinished = directory.glob(f"*{UNFINISHED}")
    return sorted({*directory.glob("*.seg"), *unfinished} - set(live_segments(directory)))


def new_segment(directory: Path) -> Path:
    """A name for a new segment."""
    return directory / f"{uuid.uuid4().hex}.seg"


def new_replacement(old: Path) -> Path:
    """A name for the unfinished replacement of a segment; with the suffix ".seg" it counts."""
    return old.with_name(f"{uuid.uuid4().hex}.{old.name.split('.')[0]}{UNFINISHED}")

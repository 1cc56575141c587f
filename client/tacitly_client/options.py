"""Options that several commands share."""

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import click

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tacitly")


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=_default_home,
    show_default="the user's data directory",
    help="The agent's directory.",
)

format_option = click.option(
    "--format",
    "as_json",
    type=click.Choice(["table", "json"]),
    default="table",
    callback=lambda _context, _option, value: value == "json",
    help="For people, or one JSON document.",
)


class Day(click.ParamType[datetime]):
    """A day of the person's own calendar, "2026-11-23", "today" or "yesterday": its midnight."""

    name = "day"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Without a time zone."""
        if isinstance(value, datetime):
            return value
        days_ago = {"today": 0, "yesterday": 1}.get(value.strip().lower())
        if days_ago is not None:
            day = datetime.now().astimezone().date() - timedelta(days=days_ago)
            return datetime.combine(day, datetime.min.time())
        try:
            return datetime.combine(date.fromisoformat(value.strip()), datetime.min.time())
        except ValueError:
            self.fail(f"{value!r} is no day such as 2026-11-23, today or yesterday", param, ctx)


class Duration(click.ParamType[int]):
    """A whole number and its unit, "90s", "10m", "2h", "7d": seconds."""

    name = "duration"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Seconds, at least 1."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value.strip())
        if match is None:
            self.fail(f"{value!r} is no time such as 90s, 10m, 2h or 7d", param, ctx)
        return int(match[1]) * _UNIT_SECONDS[match[2]]

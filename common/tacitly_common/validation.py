"""Argument checks that name the argument, show the value and say what would do.

    positive(noise_multiplier=0)  ->  ValidationError: noise_multiplier must be > 0, got 0

All raise `ValidationError`. Used in `__post_init__` and at the edges where values come in.
"""

import math
import re
from datetime import datetime, timedelta
from decimal import Decimal

from tacitly_common.errors import ValidationError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")

Number = int | float | Decimal


def positive(**values: Number) -> None:
    """Each value is finite and > 0, also as the float it may become (1e-400 does not)."""
    for name, value in values.items():
        if _is_nan(value) or not (math.isfinite(value) and float(value) > 0):
            raise ValidationError(f"{name} must be > 0, got {value}")


def positive_integer(**values: int) -> None:
    """Each value is an int, not a bool, and > 0: what a ledger counts in."""
    for name, value in values.items():
        if type(value) is not int or value <= 0:
            raise ValidationError(f"{name} must be a positive integer, got {value!r}")


def non_negative(**values: Number) -> None:
    """Each value is finite and >= 0."""
    for name, value in values.items():
        if _is_nan(value) or not (math.isfinite(value) and value >= 0):
            raise ValidationError(f"{name} must be >= 0, got {value}")


def in_range(low: Number, high: Number, **values: Number) -> None:
    """Each value lies in [low, high]."""
    for name, value in values.items():
        if _is_nan(value) or not (low <= value <= high):
            raise ValidationError(f"{name} must lie in [{low}, {high}], got {value}")


def probability(**values: Number) -> None:
    """Each value lies strictly between 0 and 1, or is 1."""
    for name, value in values.items():
        if _is_nan(value) or not (0 < value <= 1):
            raise ValidationError(f"{name} must lie in (0, 1], got {value}")


def _is_nan(value: Number) -> bool:
    # Comparing a Decimal NaN raises ArithmeticError, which nobody expects of a check.
    return value.is_nan() if isinstance(value, Decimal) else math.isnan(value)


def sha256_hex(**values: str) -> None:
    """Each value is 64 lower-case hexadecimal digits."""
    for name, value in values.items():
        if not _SHA256.fullmatch(value):
            raise ValidationError(f"{name} must be 64 lower-case hex digits, got {value!r:.80}")


def short_name(**values: str) -> None:
    """Each value is a short machine-readable name: a-z 0-9 . _ - and at most 64 characters."""
    for name, value in values.items():
        if not _NAME.fullmatch(value):
            raise ValidationError(
                f"{name} must be 1 to 64 characters of a-z 0-9 . _ -, got {value!r:.80}"
            )


def calendar_months(**values: tuple[str, ...]) -> None:
    """Each value is a sorted list of different months, "2026-11", and not empty."""
    for name, months in values.items():
        if not months or not all(_MONTH.fullmatch(month) for month in months):
            raise ValidationError(f"{name} must be months like 2026-11, got {months!r:.80}")
        if list(months) != sorted(set(months)):
            raise ValidationError(f"{name} must be sorted and unique, got {months!r:.80}")


def utc(**values: datetime) -> None:
    """Each value is a moment with the time zone UTC."""
    for name, value in values.items():
        if value.utcoffset() != timedelta(0):
            raise ValidationError(f"{name} must be a time in UTC (end it with Z), got {value}")


def host_and_port(**values: str) -> None:
    """Each value is "host:port"; an IPv6 address stands in brackets."""
    for name, value in values.items():
        found = _ADDRESS.fullmatch(value)
        if found is None or not 1 <= int(found[2]) <= 65_535:
            raise ValidationError(f"{name} must be HOST:PORT, got {value!r:.80}")

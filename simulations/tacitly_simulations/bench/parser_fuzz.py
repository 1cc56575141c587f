"""Rubbish for every parser of a masked round: `python -m tacitly_simulations.bench.parser_fuzz`.

Random bytes, real messages with bytes changed, cut, put in or doubled, and real messages with other
msgpack heads. Each input goes to every parser; it must give a message or a `SecaggError`, soon, and
in memory that does not grow.
"""

import random
import resource
import time
from typing import Final

import click

from tacitly_common.secagg.messages import (
    MESSAGES,
    Advert,
    Confirmation,
    Confirmations,
    Delivery,
    Roster,
    Shares,
    Survivors,
    Unmasking,
    encode,
    from_bitmap,
    parse,
)
from tacitly_common.secagg.packing import pack, unpack
from tacitly_common.secagg.terms import SecaggError

_Message = (
    Advert | Roster | Shares | Delivery | Survivors | Confirmation | Confirmations | Unmasking
)
_COORDINATES: Final = 40
_FIELD_BITS: Final = 13
# What msgpack takes for the head of a long array, map, text, byte string, or extension.
_HEADS: Final = b"\xc4\xc5\xc6\xc7\xc8\xc9\xd9\xda\xdb\xdc\xdd\xde\xdf\x90\x9f\x80\x8f\xc0\xcb\xcf"


def examples() -> list[_Message]:
    """One small message of each kind."""
    digest, signature, sealed = b"\x11" * 32, b"\x22" * 64, b"\x33" * 82
    advert = Advert(digest, b"\x44" * 32, b"\x55" * 32, b"\x66" * 32, b"\x30" * 90, signature)
    return [
        advert,
        Roster(digest, (advert, advert)),
        Shares(digest, (sealed, sealed)),
        Delivery(digest, b"\x07", (sealed, sealed)),
        Survivors(digest, b"\x05"),
        Confirmation(digest, signature),
        Confirmations(digest, ((0, signature), (300, signature))),
        Unmasking(digest, (b"\x77" * 33, b"")),
    ]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with up to six things done to it."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed) + 1)
        match rng.randrange(6):
            case 0:
                changed[place:place] = rng.randbytes(rng.randint(1, 8))
            case 1:
                del changed[place : place + rng.randint(1, 40)]
            case 2:
                changed[place:place] = changed[place : place + rng.randint(1, 40)]
            case 3:
                changed[place : place + 1] = bytes([rng.choice(_HEADS)])
            case 4:
                changed[place : place + 5] = bytes([rng.choice(_HEADS)]) + rng.randbytes(4)
            case _:
                changed[place : place + 1] = rng.randbytes(1)
    return bytes(changed)


def try_every_parser(data: bytes) -> int:
    """How many parsers took it. Whatever they raise but a `SecaggError` is raised here."""
    taken = 0
    for kind in MESSAGES:
        try:
            message = parse(kind, data)
        except SecaggError:
            continue
        taken += encode(message) == data
    for attempt in (
        lambda: from_bitmap(data, _COORDINATES),
        lambda: pack(unpack(data, _COORDINATES, _FIELD_BITS), _FIELD_BITS) == data,
    ):
        try:
            taken += bool(attempt())
        except SecaggError:
            continue
    return taken


@click.command()
@click.option("--inputs", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
def main(inputs: int, seed: int) -> None:
    """Feed every parser with so many inputs."""
    rng = random.Random(seed)  # noqa: S311 - what to try, not what to hide
    real = [encode(message) for message in examples()]
    began, slowest, taken = time.monotonic(), 0.0, 0
    for number in range(inputs):
        whole = number % 4 == 0
        data = rng.randbytes(rng.randint(0, 300)) if whole else mutated(rng.choice(real), rng)
        start = time.perf_counter()
        taken += try_every_parser(data)
        slowest = max(slowest, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    click.echo(
        f"{inputs} inputs to each of {len(MESSAGES) + 2} parsers: {taken} taken, the others "
        f"refused; slowest {1_000 * slowest:.1f} ms, {peak:.0f} MiB at the most, "
        f"{time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()

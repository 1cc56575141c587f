"""How wide the field must be in which masked sums are made, so that they do not wrap."""

import math


def flattened_over(coordinates: int) -> int:
    """2^k, the largest power of two up to `coordinates`: what `rotation.py` spreads each over."""
    return 1 << (coordinates.bit_length() - 1)


def field_bits(
    *,
    coordinates: int,
    answers: int,
    clip_steps: int,
    share_std: float,
    flattened_over: int | None,
    wrap_bits: int,
) -> int:
    """The least b at which a sum of `answers` leaves [-2^(b-1), 2^(b-1)) with odds <= 2^-wrap_bits.

    In grid steps: each answer has an L2 norm of at most `clip_steps` c before its rounding, which
    moves a coordinate by less than 1, and a share of noise round(N(0, share_std²)).

    | flattened_over | a coordinate of the sum of n updates                                   |
    |----------------|------------------------------------------------------------------------|
    | None           | at most n·c                                                            |
    | k coordinates  | sub-Gaussian with proxy (n·c)²/k over the rotation's signs (Hoeffding) |

    The noise before rounding is Gaussian, so signal and noise together exceed
    t = sqrt(2 (n²c²/k + n·s²) ln(2d·2^wrap_bits)) in any of d coordinates with at most those odds;
    the roundings add n (update) and n/2 (noise).
    """
    signal, fixed = float(answers * clip_steps), 1.5 * answers
    variance = answers * share_std**2
    if flattened_over is None:
        fixed += signal
    else:
        variance += signal**2 / flattened_over
    log_odds = math.log(2 * coordinates) + wrap_bits * math.log(2)
    reach = math.ceil(fixed + math.sqrt(2 * variance * log_odds))
    return reach.bit_length() + 1

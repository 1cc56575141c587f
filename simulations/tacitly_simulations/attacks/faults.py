"""Faults that an audit must find, planted round the functions that deploy. Nothing ships with them.

    with planted(Fault.UNCLIPPED_LAYER, model):
        release(update, plan, round_number, generator)

Two faults come with the generator that a caller passes in (`Streams`), the third replaces, for as
long as the context lasts, the clip that the mechanisms and the training call.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from secrets import randbits
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from randomgen import ChaCha
from torch import Tensor

from tacitly_client.training import local
from tacitly_client.training.gradient import GradientSum, clipped_gradient_sum
from tacitly_common.mechanisms import gaussian, rounded_gaussian
from tacitly_common.mechanisms.gaussian import clip_l2, secure_generator
from tacitly_common.model_config import ModelConfig


class Fault(StrEnum):
    """What somebody could get wrong."""

    NONE = "correct code"
    HALF_NOISE = "noise halved"
    UNCLIPPED_LAYER = "clip skipped for one layer"
    REUSED_NOISE = "noise reused across rounds"


class Streams:
    """Secure randomness, a fresh generator for each round; faulty where the fault is in it."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._key = fault, randbits(256)

    def generator(self) -> np.random.Generator:
        """What all devices of the next round draw from, one after the other."""
        if self._fault is Fault.HALF_NOISE:
            return _HalfNoise(ChaCha(key=randbits(256), rounds=20))
        if self._fault is Fault.REUSED_NOISE:
            generator = _ReusedNoise(ChaCha(key=randbits(256), rounds=20))
            generator.noise = np.random.Generator(ChaCha(key=self._key, rounds=20))
            return generator
        return secure_generator()


class _HalfNoise(np.random.Generator):
    def normal(  # type: ignore[override]  # numpy's overloads by type of size
        self, loc: float = 0.0, scale: float = 1.0, size: Any = None
    ) -> Any:
        return super().normal(loc, scale / 2, size)


class _ReusedNoise(np.random.Generator):
    """Draws all noise from `noise`, which begins anew each time; all else is fresh."""

    noise: np.random.Generator

    def normal(  # type: ignore[override]
        self, loc: float = 0.0, scale: float = 1.0, size: Any = None
    ) -> Any:
        return self.noise.normal(loc, scale, size)


@contextmanager
def planted(fault: Fault, model: ModelConfig) -> Iterator[None]:
    """Replace the clips by ones that forget the last tensor that trains, if that is the fault."""
    with ExitStack() as stack:
        if fault is Fault.UNCLIPPED_LAYER:
            layer = model.trainable_layout()[-1]
            first = model.trainable_parameters - layer.size

            def clip(update: NDArray[np.float32], bound: float) -> NDArray[np.float64]:
                clipped = clip_l2(update, bound)
                clipped[first:] = update[first:]
                return clipped

            def clip_records(
                parameters: Mapping[str, Tensor],
                windows: Tensor,
                *,
                trainable: frozenset[str],
                clip_norm: float | None,
            ) -> GradientSum:
                clipped, raw = (
                    clipped_gradient_sum(parameters, windows, trainable=trainable, clip_norm=norm)
                    for norm in (clip_norm, None)
                )
                unclipped = {layer.name: raw.gradients[layer.name]}
                return GradientSum(clipped.gradients | unclipped, clipped.losses)

            stack.enter_context(patch.object(gaussian, "clip_l2", clip))
            stack.enter_context(patch.object(rounded_gaussian, "clip_l2", clip))
            stack.enter_context(patch.object(local, "clipped_gradient_sum", clip_records))
        yield

"""The sum of a cohort's updates in memory that does not grow with the cohort."""

import numpy as np
from numpy.typing import NDArray

from tacitly_common.mechanisms.gaussian import EncodingError


class StreamingSum:
    """An exact integer sum of int32 updates: int64[coordinates], whatever their number.

    2^32 updates fit before the accumulator could overflow; a plan's population is below 2^27.
    Integer addition is associative, so the order of arrival does not matter.
    """

    def __init__(self, coordinates: int) -> None:
        self._total = np.zeros(coordinates, dtype=np.int64)
        self._count = 0

    @property
    def count(self) -> int:
        """How many updates were added."""
        return self._count

    @property
    def total(self) -> NDArray[np.int64]:
        """The sum so far, read-only."""
        view = self._total.view()
        view.flags.writeable = False
        return view

    def add(self, update: NDArray[np.int32]) -> None:
        """Add one update, int32[coordinates].

        Raises:
            EncodingError: another type (which could overflow) or length; the sum is unchanged.
        """
        if update.dtype != np.int32 or update.shape != self._total.shape:
            raise EncodingError(
                f"an update must be int32{list(self._total.shape)}, "
                f"got {update.dtype}{list(update.shape)}"
            )
        np.add(self._total, update, out=self._total)
        self._count += 1

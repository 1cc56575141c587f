from decimal import Decimal

import pytest

from tacitly_common.accounting.caps import Caps
from tacitly_common.errors import ValidationError


@pytest.mark.parametrize("bad", [0, -1, 1.0, True, Decimal(1)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_only_positive_integers_are_caps(place: int, bad: int) -> None:
    amounts = [1, 1, 1]
    amounts[place] = bad
    with pytest.raises(ValidationError, match="positive integer"):
        Caps(*amounts)

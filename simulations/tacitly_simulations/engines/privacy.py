"""What a simulation may choose and no device lets anybody choose: which noise is added, and that
residues are summed without masks.
"""

from decimal import Decimal
from enum import StrEnum

from tacitly_common.campaign import MaskingPlan


class Privacy(StrEnum):
    """Every level clips to C, so that levels differ in noise alone."""

    NONE = "none"
    SUBJECT = "subject"
    RECORD = "record"
    SUBJECT_AND_RECORD = "subject and record"

    @property
    def protects_records(self) -> bool:
        """DP-SGD runs inside the device."""
        return self in (Privacy.RECORD, Privacy.SUBJECT_AND_RECORD)

    @property
    def protects_subjects(self) -> bool:
        """The update is noised before it leaves the device."""
        return self in (Privacy.SUBJECT, Privacy.SUBJECT_AND_RECORD)


def one_group(persons: int) -> MaskingPlan:
    """The field of everybody's sum. A simulation adds the residues up in the open."""
    return MaskingPlan(
        dropout=Decimal(0),
        corruption=Decimal(0),
        failure_bits=40,
        group_size=persons,
        wrap_bits=40,
    )

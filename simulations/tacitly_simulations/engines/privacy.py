"""Which of the two levels of noise a simulated client adds: what no device lets anybody choose."""

from enum import StrEnum


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

"""The secret-field gate: what is typed is content only where that is known to be harmless.

verdict.py        ALLOW, DENY or UNKNOWN for the focused field
applications.py   which applications are denied by name: one public table
accessibility.py  what applications tell of their fields (AT-SPI)
browsers.py       what browsers' extensions tell of theirs
"""

from tacitly_client.capture.gate.accessibility import Accessibility, FieldKind
from tacitly_client.capture.gate.browsers import told_by_browsers
from tacitly_client.capture.gate.verdict import Gate, Place, Reread, Seen, Verdict

__all__ = [
    "Accessibility",
    "FieldKind",
    "Gate",
    "Place",
    "Reread",
    "Seen",
    "Verdict",
    "told_by_browsers",
]

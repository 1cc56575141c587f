"""What events may be learned from for: a closed list, the same on devices and servers.

A plan of any other purpose is refused by both (OTHER_PURPOSE), whatever officers sign, and a
policy cannot name one. There is none that is about a person: no emotion, stress, fatigue,
productivity or idle time, no evaluation of anybody's work (Regulation (EU) 2024/1689, Article
5(1)(f) and Annex III, 4(b)). A new purpose is a new release of Tacitly, with words for it in every
notice, so that everybody is asked again.
"""

from enum import StrEnum


class Purpose(StrEnum):
    """What a plan may be for."""

    # Predict the next key, click or application, for suggestions on people's own machines.
    NEXT_INTERACTION = "next-interaction"
    # Measure how well such predictions do, on events that their owners keep back for that.
    EVALUATION = "evaluation"
    # Measure what taking part costs a machine; the model is thrown away.
    BENCH = "bench"

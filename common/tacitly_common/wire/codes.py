"""Why a device refuses, in a number that may leave it: the only words a device has for a server.

A code is a function of what the server sent, of the officers' log and of budgets that both sides
keep; none tells anything about events. The meanings never change; new ones are added at the end.
"""

from enum import IntEnum


class ReplyCode(IntEnum):
    """What a device answers. OK comes with an update; every other code comes alone."""

    OK = 0
    UNKNOWN_APPLICATION = 1
    UNKNOWN_TASK = 2
    UNKNOWN_PLAN = 3
    MALFORMED_TASK = 4
    WRONG_MODEL = 5
    ROUND_OUT_OF_RANGE = 6
    BUDGET_EXHAUSTED = 7
    DEVICE_FAULT = 8
    # The record level's own budget (DP-SGD inside the device) would be overdrawn.
    RECORD_BUDGET_EXHAUSTED = 9
    # A participation limit of the plan: asked too often, or too soon.
    TOO_SOON = 10
    # Earlier than an attempt that this device has answered already.
    ROUND_REPLAYED = 11
    # The person of this device does not take part: has not joined, has left or withdrawn, or has
    # paused. Which of these is nobody's business, so that one code says them all.
    NOT_JOINED = 12
    # The officers' log does not hang together: a signature, a hash, an order, or a rolled-back end.
    LOG_FORGED = 13
    # Fewer than two active officers besides its proposer have approved the plan.
    PLAN_NOT_APPROVED = 14
    SAME_OFFICER_TWICE = 15
    # Signed with the key of a revoked officer, or of nobody's.
    OFFICER_NOT_ACTIVE = 16
    PLAN_MALFORMED = 17
    # Approved but not started, or an officer has limited it to the rounds before this one.
    CAMPAIGN_STOPPED = 18
    CAMPAIGN_EXPIRED = 19
    # The plan names other device code than what runs here.
    CLIENT_VERSION = 20
    NOISE_TOO_LOW = 21
    CLIP_TOO_LARGE = 22
    COHORT_TOO_SMALL = 23
    OTHER_PURPOSE = 24
    UNKNOWN_OUTPUT = 25
    # More content, longer, or dearer than the organisation's policy lets any plan be.
    BEYOND_POLICY = 26
    # No grant, or one that is not signed by the server's grant key for this plan.
    GRANT_INVALID = 27
    GRANT_EXPIRED = 28
    # A masked round (docs/secure-aggregation.md): what the server asked is not what the protocol
    # allows now, is malformed, or belongs to another plan, round, attempt, group or roster.
    MASKING_OUT_OF_PHASE = 29
    MASKING_MALFORMED = 30
    MASKING_OTHER_SESSION = 31
    # Fewer members, in the roster or in the sum, than the plan's minimum.
    MASKING_GROUP_TOO_SMALL = 32
    MASKING_DUPLICATE_MEMBER = 33
    MASKING_NOT_CERTIFIED = 34
    MASKING_BAD_SIGNATURE = 35
    # This device's own keys are not in the roster as it signed them.
    MASKING_NOT_IN_ROSTER = 36
    # Fewer of this device's own neighbours are there than its secrets need.
    MASKING_TOO_FEW_NEIGHBOURS = 37
    # Survivors who never shared, or without this device, whose vector was asked for.
    MASKING_WRONG_SURVIVORS = 38
    # Too few neighbours have signed the survivors that this device was told of.
    MASKING_UNCONFIRMED = 39

"""Is this reply one that may be added? Each way to fail has its own name in the receipt.

A reply is data from a machine nobody here controls. Whatever is wrong with it costs its own
contribution and nothing else. A `Refusal` holds no value from the wire.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.encodings import within_bounds
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    Task,
    WireError,
    WrongShapeError,
    WrongTypeError,
    parse_reply_content,
    parse_step_reply,
)
from tacitly_common.wire.phases import Phase

_NODE_UNAVAILABLE = 5  # Flower's ErrorCode; SuperLink answers for a node that went offline


class Refusal(StrEnum):
    """Why a selected node contributed nothing, as the server sees it."""

    # the transport
    UNDELIVERED = "undelivered"
    NO_ANSWER = "no_answer"
    NODE_UNAVAILABLE = "node_unavailable"
    NODE_ERROR = "node_error"
    # the message
    UNREADABLE = "unreadable"
    UNASKED = "unasked"
    WRONG_SENDER = "wrong_sender"
    MALFORMED = "malformed"
    WRONG_SHAPE = "wrong_shape"
    WRONG_TYPE = "wrong_type"
    WRONG_ATTEMPT = "wrong_attempt"
    NORM_TOO_LARGE = "norm_too_large"
    WRONG_SHARE = "wrong_share"
    GROUP_NORM_TOO_LARGE = "group_norm_too_large"


def device_refusal(code: ReplyCode) -> str:
    """The name under which a device's own decision is counted."""
    return f"device_{code.name.lower()}"


def check_reply(
    message: Message, *, plan: CampaignPlan, task: Task, node_id: int
) -> NDArray[np.int32] | str:
    """The update of a reply that `node_id` was asked for, or why there is none. Never raises.

    The reason is a `Refusal` of ours or the name of the device's own (`device_refusal`).

    1. an error of Flower's own, which may come from SuperLink in the node's place
    2. from the node that was asked
    3. exactly the records, the type and the length of the protocol (int32: never NaN)
    4. for this very round and attempt
    5. the device did not refuse
    6. within what an honest update can be: an L2 norm, or a range (`encodings.within_bounds`)
    """
    reply = _checked(
        message,
        task,
        node_id,
        lambda content: parse_reply_content(content, coordinates=plan.model.trainable_parameters),
    )
    if isinstance(reply, str):
        return reply
    if reply.update is None:  # parse_reply_content promises one with OK
        return Refusal.MALFORMED
    return reply.update if within_bounds(reply.update, plan) else Refusal.NORM_TOO_LARGE


def check_step_reply(
    message: Message, *, task: Task, node_id: int, phase: Phase, most_bytes: int
) -> bytes | str:
    """The payload of a reply in a phase of a masked attempt, or why there is none. Never raises.

    As `check_reply` without step 6: what the bytes say, the group's round looks at.
    """
    reply = _checked(
        message,
        task,
        node_id,
        lambda content: parse_step_reply(content, phase=phase, most_bytes=most_bytes),
    )
    if isinstance(reply, str):
        return reply
    return Refusal.MALFORMED if reply.step is None else reply.step.payload


def _checked(
    message: Message, task: Task, node_id: int, parse: Callable[[RecordDict], Reply]
) -> Reply | str:
    """Steps 1 to 5 of `check_reply`."""
    if message.has_error():
        unavailable = message.error.code == _NODE_UNAVAILABLE
        return Refusal.NODE_UNAVAILABLE if unavailable else Refusal.NODE_ERROR
    if message.metadata.src_node_id != node_id:
        return Refusal.WRONG_SENDER
    try:
        reply = parse(message.content)
    except WrongShapeError:
        return Refusal.WRONG_SHAPE
    except WrongTypeError:
        return Refusal.WRONG_TYPE
    except WireError:
        return Refusal.MALFORMED
    except Exception:  # whatever Flower's own classes trip over in hostile content
        return Refusal.UNREADABLE
    if (reply.round, reply.attempt) != (task.round, task.attempt):
        return Refusal.WRONG_ATTEMPT
    return reply if reply.code is ReplyCode.OK else device_refusal(reply.code)

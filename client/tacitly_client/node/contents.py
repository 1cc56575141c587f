"""A message's content from its content-addressed parts, when all of them are hostile.

Flower's own inflation trusts the server in two ways that matter here: an `Array` may name one
chunk a million times (a small message that unpacks into terabytes), and any exception may come
out. Both end here. The parts' hashes have been checked before (`connection.py`).
"""

import json
from collections.abc import Mapping
from typing import Final

from flwr.app import Message, RecordDict

from tacitly_client.node.flower_port import (
    get_object_head_values_from_object_content,
    inflate_object_from_contents,
)
from tacitly_common.wire.messages import WireError

# What a train message is made of: `wire.messages.train_content` in Flower's parts.
_KNOWN: Final = frozenset(
    {"Message", "RecordDict", "ConfigRecord", "ArrayRecord", "Array", "ArrayChunk"}
)


def inflate_content(message_id: str, parts: Mapping[str, bytes], *, limit_bytes: int) -> RecordDict:
    """The content of message `message_id`.

    Raises:
        WireError: a part is missing, unknown or malformed, or an array is longer than
            `limit_bytes`. The text says which check failed and holds nothing of the parts.
    """
    try:
        for part in parts.values():
            _check(part, parts, limit_bytes)
        message = inflate_object_from_contents(message_id, dict(parts))
        if not isinstance(message, Message) or not message.has_content():
            raise WireError("the message has no content")
        return message.content
    except WireError:
        raise
    except Exception:
        # Whatever Flower, protobuf, json or numpy raise: none may pass on what it was given.
        raise WireError("the message is malformed") from None


def _check(part: bytes, parts: Mapping[str, bytes], limit_bytes: int) -> None:
    kind, children, body_length = get_object_head_values_from_object_content(part)
    if kind not in _KNOWN:
        raise WireError("the message holds a part of unknown kind")
    if kind == "Array":
        body = json.loads(part[len(part) - body_length :])
        uses = body["arraychunk_ids"]
        if sum(len(parts[children[index]]) for index in uses) > limit_bytes:
            raise WireError("an array is larger than the plan's model")

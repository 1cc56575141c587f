"""Rubbish for the parsers of what else comes over the wire.

    python -m tacitly_simulations.bench.wire_fuzz

Flower's parts of a message, and the messages of a round made of them; the officers' log, plans,
policies and grants. Real ones are changed as in `parser_fuzz.py`, a Flower message in one to three
of its parts. Each input goes to every parser of its kind, which must take it or refuse it by a
deliberate error, soon, and in memory that does not grow.
"""

import random
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import click
import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message, RecordDict

from tacitly_client.node.contents import inflate_content
from tacitly_client.node.flower_port import Metadata, get_all_nested_objects, make_message
from tacitly_common.campaign import CampaignPlan, parse_plan
from tacitly_common.contract.acts import Genesis, Officer, begin, parse_entry
from tacitly_common.contract.grant import Grant, parse_grant, sign_grant
from tacitly_common.contract.policy import parse_policy
from tacitly_common.contract.signatures import public_hex
from tacitly_common.errors import TacitlyError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.messages import (
    Reply,
    Step,
    Task,
    WireError,
    model_record,
    parse_reply_content,
    parse_step_content,
    parse_step_reply,
    parse_task,
    parse_train_content,
    reply_content,
    step_content,
    train_content,
)
from tacitly_common.wire.phases import Phase
from tacitly_server.bundle import app_hash
from tacitly_server.rounds.receipts import model_sha256
from tacitly_simulations.bench.parser_fuzz import mutated
from tacitly_simulations.bench.plan import initial_model, rounds_plan
from tacitly_simulations.demo.office import policy_for

_T = TypeVar("_T")

_COORDINATES: Final = 20
_MOST_BYTES: Final = 400
_LIMIT_BYTES: Final = 10_000
_MESSAGE_PARSERS: Final[tuple[Callable[[RecordDict], object], ...]] = (
    parse_task,
    lambda content: parse_train_content(content, parameters=_COORDINATES),
    lambda content: parse_step_content(content, parameters=_COORDINATES, most_bytes=_MOST_BYTES),
    lambda content: parse_reply_content(content, coordinates=_COORDINATES),
    lambda content: parse_step_reply(content, phase=Phase.SHARE, most_bytes=_MOST_BYTES),
    lambda content: parse_step_reply(content, phase=Phase.UPLOAD, most_bytes=_MOST_BYTES),
)
_DOCUMENT_PARSERS: Final[tuple[Callable[[bytes], object], ...]] = (
    parse_plan,
    parse_policy,
    parse_entry,
    parse_grant,
)


def message_examples() -> list[tuple[str, dict[str, bytes]]]:
    """One message of each kind: its id, and its parts as a server holds them."""
    task = Task("0" * 64, 3, 1, b"a grant")
    model = np.linspace(-1, 1, _COORDINATES, dtype=np.float32)
    update = np.arange(_COORDINATES, dtype=np.int32)
    share, masked = Step(Phase.SHARE, b"\x11" * 90), Step(Phase.UPLOAD, b"\x22" * 50)
    contents = [
        train_content(task, model),
        step_content(task, share),
        step_content(task, masked, model_record(model)),
        reply_content(Reply(3, 1, ReplyCode.OK, update)),
        reply_content(Reply(3, 1, ReplyCode.NOT_JOINED, None)),
        reply_content(Reply(3, 1, ReplyCode.OK, None, share)),
        reply_content(Reply(3, 1, ReplyCode.OK, None, masked)),
    ]
    return [_parts(content) for content in contents]


def document_examples() -> list[bytes]:
    """A plan, a policy, an entry and a grant."""
    plan = _plan()
    policy, key = policy_for(plan), Ed25519PrivateKey.generate()
    officers = tuple(
        Officer(name=name, public_key=public_hex(Ed25519PrivateKey.generate()))
        for name in ("ada", "bea", "cyn")
    )
    genesis = Genesis(
        organisation="Example", officers=officers, policy=policy, grant_key=public_hex(key)
    )
    now = datetime.now(UTC).replace(microsecond=0)
    grant = Grant(
        plan_hash=plan.hash,
        purpose=plan.purpose,
        noise_multiplier=plan.subject.noise_multiplier,
        clip_norm=plan.subject.clip_norm,
        cohort_minimum=plan.cohort.minimum,
        outputs=tuple(plan.outputs),
        issued_at=now,
        expires_at=now + timedelta(hours=1),
    )
    return [
        plan.to_json(),
        msgspec.json.encode(policy),
        begin(genesis, at=now).to_json(),
        sign_grant(grant, key).to_json(),
    ]


def try_message(message_id: str, parts: dict[str, bytes]) -> int:
    """How many parsers took it; none if Flower's parts make no message."""
    try:
        content = inflate_content(message_id, parts, limit_bytes=_LIMIT_BYTES)
    except WireError:
        return 0
    return sum(_takes(parser, content, WireError) for parser in _MESSAGE_PARSERS)


def try_document(document: bytes) -> int:
    """How many parsers took it."""
    return sum(_takes(parser, document, TacitlyError) for parser in _DOCUMENT_PARSERS)


def _takes(parser: Callable[[_T], object], data: _T, refusal: type[TacitlyError]) -> bool:
    try:
        return parser(data) is not None
    except refusal:
        return False


def _plan() -> CampaignPlan:
    return rounds_plan(
        "fuzz",
        1,
        app_hash=app_hash(),
        initial_model_hash=model_sha256(initial_model()),
        data_epochs=("2026-01",),
    )


def _parts(content: RecordDict) -> tuple[str, dict[str, bytes]]:
    metadata = Metadata(1, "", 1, 2, "", "", 1.8e9, 60.0, "train")
    message: Message = make_message(metadata=metadata, content=content)
    nested = get_all_nested_objects(message)
    return message.object_id, {name: part.deflate() for name, part in nested.items()}


@click.command()
@click.option("--inputs", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
def main(inputs: int, seed: int) -> None:
    """Feed the parsers of messages, and those of documents, with so many inputs each."""
    rng = random.Random(seed)  # noqa: S311 - what to try, not what to hide
    messages, documents = message_examples(), document_examples()
    began, slowest = time.monotonic(), 0.0
    taken = [0, 0]
    for _ in range(inputs):
        name, parts = rng.choice(messages)
        changed = parts | {
            part: mutated(parts[part], rng)
            for part in rng.sample(sorted(parts), rng.randint(1, min(3, len(parts))))
        }
        document = mutated(rng.choice(documents), rng)
        start = time.perf_counter()
        taken[0] += try_message(name, changed)
        taken[1] += try_document(document)
        slowest = max(slowest, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    click.echo(
        f"{inputs} messages and as many documents: {taken[0]} and {taken[1]} taken by a parser, "
        f"the others refused; slowest {1_000 * slowest:.1f} ms, {peak:.0f} MiB at the most, "
        f"{time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()

"""This device's part in a masked attempt: each message is one step, from its keys to its shares.

    ADVERTISE   the group's number         -> signed ephemeral keys
    SHARE       the group's roster         -> sealed shares of this device's secrets
    UPLOAD      the sealed shares for it,
                and the model              -> charge, train, encode, mask: the masked vector
    CONFIRM     whose vectors are there    -> its signature of that
    UNMASK      the others' signatures     -> one share of each neighbour's

What is checked in a step, `masking/` does; here is which attempt it belongs to. The secrets are in
this process alone, so a device that is killed has vanished from the attempt. Charging comes in
UPLOAD, in the trainer and before there is anything to mask.

The very message again is answered by the very bytes again, if it is the newest; any other repeated
step ends the attempt. An attempt whose masked vector has left is never begun anew: one vector under
two sets of masks is two sums, and their difference may be one person's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tacitly_client.node.masking import DevicePhase, DeviceRound, MaskingRefusedError
from tacitly_common.campaign import CampaignPlan
from tacitly_common.secagg.members import Identity
from tacitly_common.secagg.messages import (
    Advert,
    Confirmation,
    Shares,
    Unmasking,
    parse,
)
from tacitly_common.secagg.packing import unpack
from tacitly_common.secagg.terms import SecaggError
from tacitly_common.wire.codes import ReplyCode
from tacitly_common.wire.group_terms import group_terms, largest_payload_bytes, read_group_number
from tacitly_common.wire.messages import Reply, Step, Task
from tacitly_common.wire.phases import Phase

# Trains from float32 bytes; the update of an OK is uint32 residues, not masked, as int32.
Train = Callable[[bytes], Reply]


@dataclass(frozen=True, slots=True)
class _Answered:
    """The newest step that was answered OK: which it was, by its hash, and the answer."""

    asked: bytes
    reply: Reply


class _RefusedError(Exception):
    """The trainer refuses the job."""

    def __init__(self, code: ReplyCode) -> None:
        super().__init__()
        self.code = code


class MaskedAttempts:
    """At most one attempt of one plan at a time; a newer one takes its place."""

    def __init__(
        self, plan: CampaignPlan, identity: Callable[[], Identity], now: Callable[[], datetime]
    ) -> None:
        """`plan` masks; `identity` is asked at each attempt: a certificate may be renewed."""
        self._plan = plan
        self._identity = identity
        self._now = now
        self._round: DeviceRound | None = None
        self._place = (0, 0)
        self._newest: _Answered | None = None

    @property
    def goes_on(self) -> bool:
        """Whether another step of an attempt is to come."""
        return self._round is not None and self._round.phase is not DevicePhase.OVER

    @property
    def largest_payload_bytes(self) -> int:
        """The most bytes that a step of the server's has beside the model."""
        return largest_payload_bytes(self._plan)

    def close(self) -> None:
        """Drop the attempt and its secrets."""
        if self._round is not None:
            self._round.close()
        self._round = self._newest = None

    def check_step(self, step: Step) -> None:
        """Return if a step of this device's is exactly what its phase sends.

        Raises:
            SecaggError: it is not.
        """
        match step.phase:
            case Phase.ADVERTISE:
                parse(Advert, step.payload)
            case Phase.SHARE:
                parse(Shares, step.payload)
            case Phase.UPLOAD:
                coordinates = self._plan.model.trainable_parameters
                unpack(step.payload, coordinates, self._plan.field_bits)
            case Phase.CONFIRM:
                parse(Confirmation, step.payload)
            case Phase.UNMASK:
                parse(Unmasking, step.payload)

    def answer(
        self, task: Task, step: Step, model: bytes, train: Train, *, update_left: bool
    ) -> Reply:
        """The answer to a step of a task that this device takes part in.

        Args:
            model: in the phase UPLOAD, float32[parameters] as bytes.
            train: asked in UPLOAD, once.
            update_left: whether this attempt's masked vector, or a later one of its round, has
                left this device; also if an earlier process sent it.

        Raises:
            TacitlyError, OSError: identity or trainer failed; the attempt is over here.
        """
        place = (task.round, task.attempt)
        asked = _hash(place, step, model)
        if self._newest is not None and self._newest.asked == asked:
            return self._newest.reply
        if step.phase is Phase.ADVERTISE and update_left:
            return Reply(*place, ReplyCode.ROUND_REPLAYED, None)
        try:
            if step.phase is Phase.ADVERTISE and place != self._place:
                payload = self._begin(task, step.payload)
            elif self._round is None or place != self._place:
                return Reply(*place, ReplyCode.MASKING_OUT_OF_PHASE, None)
            else:
                payload = self._go_on(self._round, step, model, train)
        except (MaskingRefusedError, _RefusedError) as refused:
            self.close()
            return Reply(*place, refused.code, None)
        except BaseException:
            self.close()
            raise
        reply = Reply(*place, ReplyCode.OK, None, Step(step.phase, payload))
        self._newest = _Answered(asked, reply)
        return reply

    def _begin(self, task: Task, payload: bytes) -> bytes:
        self.close()
        try:
            group = read_group_number(self._plan, payload)
        except SecaggError:
            raise _RefusedError(ReplyCode.MASKING_MALFORMED) from None
        terms = group_terms(self._plan, round_=task.round, attempt=task.attempt, group=group)
        self._place = (task.round, task.attempt)
        self._round = DeviceRound(terms, self._identity(), now=self._now())
        return self._round.advertise()

    @staticmethod
    def _go_on(masked: DeviceRound, step: Step, model: bytes, train: Train) -> bytes:
        match step.phase:
            case Phase.ADVERTISE:
                # Another one for the attempt that is under way.
                raise _RefusedError(ReplyCode.MASKING_OUT_OF_PHASE)
            case Phase.SHARE:
                return masked.share(step.payload)
            case Phase.UPLOAD:
                masked.accept(step.payload)
                trained = train(model)
                if trained.update is None:
                    raise _RefusedError(trained.code)
                return masked.mask(trained.update.view(np.uint32))
            case Phase.CONFIRM:
                return masked.confirm(step.payload)
            case Phase.UNMASK:
                return masked.unmask(step.payload)


def _hash(place: tuple[int, int], step: Step, model: bytes) -> bytes:
    # The numbers have a fixed length, the payload its own before it.
    numbers = (*place, step.phase, len(step.payload))
    head = b"".join(number.to_bytes(8, "big") for number in numbers)
    return hashlib.sha256(head + step.payload + model).digest()

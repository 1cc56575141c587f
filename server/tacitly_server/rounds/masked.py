"""A round whose updates come masked: five exchanges with a cohort, and the sums of its groups.

    ADVERTISE SHARE UPLOAD CONFIRM UNMASK    `wire/phases.py`; what is said: aggregation/masking/

Groups go through the phases side by side, and one that has too few left is lost alone. Nothing of
it is on a disk: a process that ends here has lost the attempt, and the masked sums with it.

Memory is that of one sum a group and the replies just arriving, whatever the cohort's size.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

import numpy as np
from cryptography import x509
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from tacitly_common.campaign import CampaignPlan
from tacitly_common.mechanisms.rounded_gaussian import centred
from tacitly_common.wire.group_terms import group_number, group_terms, largest_payload_bytes
from tacitly_common.wire.messages import TRAIN, Step, Task, model_record, step_content
from tacitly_common.wire.phases import ENDS_AT, Phase
from tacitly_server.aggregation.checks import Refusal, check_step_reply
from tacitly_server.aggregation.group_bound import group_norm_bound
from tacitly_server.aggregation.masking import GroupLostError, GroupRound
from tacitly_server.rounds.answers import Answers
from tacitly_server.rounds.clock import Clock
from tacitly_server.rounds.exchange import receive, rest_between_phases, send
from tacitly_server.rounds.receipts import PhaseTraffic

Take = Callable[[GroupRound, int, bytes], str | None]
_T = TypeVar("_T")
_LEAST_GRACE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedRound:
    """What an attempt runs on. It `began` then on the clock; certificates hold as of `now`."""

    grid: Grid
    plan: CampaignPlan
    task: Task
    authority: x509.Certificate
    clock: Clock
    began: float
    now: datetime
    permitted: Callable[[], bool]
    rng: random.Random


def collect_masked(
    conditions: MaskedRound, model: NDArray[np.float32], nodes: Iterable[int]
) -> Answers:
    """The sum of the cohort's updates, of those groups that came through.

    1. Deal the cohort into the plan's groups at random. ADVERTISE: everybody's keys.
    2. SHARE: each group's roster out, sealed shares in.
    3. UPLOAD: the shares and the model out, masked vectors in, each added to its group's sum.
    4. Fewer vectors than the plan's minimum: stop here, with every mask on.
    5. CONFIRM: the survivors out, signatures of them in.
    6. UNMASK: the signatures out, shares in; each group's masks come off its sum.
    7. A group's sum that clip and noise do not allow is left out; the others are added.
    """
    attempt = _Attempt(conditions)
    attempt.deal(nodes)
    attempt.exchange(
        Phase.ADVERTISE,
        {node: group_number(group.terms.group) for node, group in attempt.group_of.items()},
        GroupRound.advertised,
    )
    rosters = attempt.close(GroupRound.close_adverts)
    attempt.exchange(
        Phase.SHARE,
        {node: rosters[group] for group in attempt.alive for node in group.members},
        GroupRound.shared,
    )
    attempt.close(GroupRound.close_shares)
    attempt.exchange(
        Phase.UPLOAD,
        {node: group.delivery(node) for group in attempt.alive for node in group.sharers},
        GroupRound.uploaded,
        model_record(model),
    )
    survivors = attempt.close(GroupRound.close_uploads)
    attempt.exchange(
        Phase.CONFIRM,
        {node: survivors[group] for group in attempt.alive for node in group.survivors},
        GroupRound.confirmed,
    )
    attempt.close(GroupRound.close_confirmations)
    attempt.exchange(
        Phase.UNMASK,
        {node: group.confirmations(node) for group in attempt.alive for node in group.confirmers},
        GroupRound.unmasked,
    )
    attempt.add_up()
    return attempt.answers


class _Patience:
    """How long a phase waits for those who have not answered.

    To its end (`ENDS_AT`), if they train: how long that may take is the plan's to say. In any other
    phase, once no more are missing than the plan expects to vanish, as long again as the others
    have taken: who is not half as fast has most likely gone.
    """

    def __init__(self, conditions: MaskedRound, phase: Phase, asked: int) -> None:
        masking = conditions.plan.masking
        vanishing = 0 if masking is None else int(masking.dropout * asked)
        self._enough = asked if phase is Phase.UPLOAD else asked - vanishing
        self._clock = conditions.clock
        self._began = self._clock.monotonic()
        self._until: float | None = None

    def lasts(self, answered: int) -> bool:
        """Whether to go on waiting after so many answers."""
        now = self._clock.monotonic()
        if self._until is None and answered >= self._enough:
            self._until = now + max(now - self._began, _LEAST_GRACE_SECONDS)
        return self._until is None or now < self._until


@dataclass(slots=True)
class _Attempt:
    """One attempt under way: its groups that are not lost, and what was counted."""

    conditions: MaskedRound
    alive: list[GroupRound] = field(default_factory=list)
    group_of: dict[int, GroupRound] = field(default_factory=dict)
    answers: Answers = field(init=False)

    def __post_init__(self) -> None:
        coordinates = self.conditions.plan.model.trainable_parameters
        self.answers = Answers(np.zeros(coordinates, dtype=np.int64))

    def deal(self, nodes: Iterable[int]) -> None:
        """Groups whose sizes differ by one at the most, drawn anew for each attempt."""
        conditions, shuffled = self.conditions, list(nodes)
        conditions.rng.shuffle(shuffled)
        task, sums = conditions.task, conditions.plan.masked_sums
        self.answers.groups = groups = 0 if sums is None else sums.groups
        for number in range(groups):
            terms = group_terms(
                conditions.plan, round_=task.round, attempt=task.attempt, group=number
            )
            group = GroupRound(terms, conditions.authority, now=conditions.now)
            self.alive.append(group)
            self.group_of.update(dict.fromkeys(shuffled[number::groups], group))

    def exchange(
        self,
        phase: Phase,
        payloads: Mapping[int, bytes],
        take: Take,
        model: ArrayRecord | None = None,
    ) -> None:
        """Send each node its payload, and have its group take what it answers.

        Does nothing if the groups that are left hold fewer than the plan's minimum: then nobody
        need train, and no mask comes off.
        """
        conditions, answers = self.conditions, self.answers
        minimum = conditions.plan.cohort.minimum
        # In UNMASK it is the vectors that count: the fewer who confirmed are enough.
        reach = sum(len(group.survivors) for group in self.alive)
        reach = reach if phase is Phase.UNMASK else len(payloads)
        if reach < minimum or not conditions.permitted():
            self.alive.clear()
            return
        until = conditions.began + ENDS_AT[phase] * conditions.plan.cohort.deadline_seconds
        asked = send(conditions.grid, self._messages(phase, payloads, model, until))
        if len(asked) < len(payloads):
            answers.refusals[Refusal.UNDELIVERED] += len(payloads) - len(asked)
        answered = up = 0
        # Once all vectors are in, a threshold of answers is enough.
        needed = minimum if phase <= Phase.UPLOAD else 0
        patience = _Patience(conditions, phase, len(asked))

        def go_on(unanswered: int) -> bool:
            reachable = answered + unanswered >= needed
            return reachable and patience.lasts(answered) and conditions.permitted()

        for node_id, reply in receive(
            conditions.grid,
            asked,
            answers.refusals,
            clock=conditions.clock,
            until=until,
            go_on=go_on,
            most_rest_seconds=rest_between_phases(conditions.plan.cohort.deadline_seconds),
        ):
            payload = self._payload(phase, node_id, reply)
            if isinstance(payload, bytes):
                up += len(payload)
                fault = take(self.group_of[node_id], node_id, payload)
            else:
                fault = payload
            if fault is None:
                answered += 1
            else:
                answers.refusals[fault] += 1
        model_bytes = 0 if model is None else sum(len(array.data) for array in model.values())
        down = sum(map(len, payloads.values())) + model_bytes * len(payloads)
        answers.phases[phase.name.lower()] = PhaseTraffic(
            answered=answered, bytes_down=down, bytes_up=up
        )
        answers.bytes_down += down
        answers.bytes_up += up

    def close(self, close: Callable[[GroupRound], _T]) -> dict[GroupRound, _T]:
        """End a phase in every group; what each makes of it, of those that are not lost."""
        closed: dict[GroupRound, _T] = {}
        for group in self.alive:
            try:
                closed[group] = close(group)
            except GroupLostError as lost:
                self.answers.refusals[f"group_lost_{lost.reason}"] += 1
        self.alive = list(closed)
        return closed

    def add_up(self) -> None:
        """Take the masks off each group's sum, and add those that can be honest."""
        plan, answers, groups = self.conditions.plan, self.answers, self.alive
        sums = self.close(GroupRound.finish)
        if liars := sum(len(group.liars) for group in groups):
            answers.refusals[Refusal.WRONG_SHARE] += liars
        for unmasked in sums.values():
            total, count = centred(unmasked.total, plan), len(unmasked.contributors)
            answers.groups_unmasked += 1
            if float(np.linalg.norm(total.astype(np.float64))) > group_norm_bound(plan, count):
                answers.refusals[Refusal.GROUP_NORM_TOO_LARGE] += count
                continue
            answers.total += total
            answers.usable += count

    def _messages(
        self,
        phase: Phase,
        payloads: Mapping[int, bytes],
        model: ArrayRecord | None,
        until: float,
    ) -> list[Message]:
        conditions, task = self.conditions, self.conditions.task
        left = until - conditions.clock.monotonic()
        contents: dict[bytes, RecordDict] = {}
        for payload in payloads.values():
            if payload not in contents:
                contents[payload] = step_content(task, Step(phase, payload), model)
        return [
            Message(
                contents[payload],
                dst_node_id=node,
                message_type=TRAIN,
                ttl=max(left, 1.0),
                group_id=f"{task.round}.{task.attempt}.{phase.value}",
            )
            for node, payload in payloads.items()
        ]

    def _payload(self, phase: Phase, node_id: int, reply: Message) -> bytes | str:
        plan = self.conditions.plan
        most_bytes = max(largest_payload_bytes(plan), 4 * plan.model.trainable_parameters)
        return check_step_reply(
            reply, task=self.conditions.task, node_id=node_id, phase=phase, most_bytes=most_bytes
        )

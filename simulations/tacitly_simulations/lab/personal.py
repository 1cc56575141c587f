"""After the rounds each recorded person trains some layers on, alone, and keeps them.

As a device would: from the released model, on the person's own older part, without clip or noise,
since nothing leaves. Held-out tokens stay held out. The clients train in blocks, as in a round.

FedPer's split of a model in shared and personal layers (Arivazhagan et al. 2019, "Federated
learning with personalization layers"), with the personal ones trained once, at the end.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_common.campaign import revise
from tacitly_common.evaluation import Evaluation, evaluate
from tacitly_common.model_config import folded
from tacitly_server.rounds.optimizer import apply
from tacitly_simulations.engines.client_file import SimulatedClients
from tacitly_simulations.engines.privacy import Privacy
from tacitly_simulations.engines.trainers import Trainers, Work


def personal_scores(
    work: Work,
    model: NDArray[np.float32],
    clients: SimulatedClients,
    newer: Sequence[NDArray[np.int64]],
    *,
    train: tuple[str, ...],
    settings: PlainSettings,
    processes: int,
) -> list[Evaluation]:
    """Each person's own model on that person's `newer` part, in their order.

    `train` names the tensors that are trained on, all if empty. `model` is float32[parameters];
    adapters are folded into what they adapt, and are no tensors of their own here.

    Raises:
        ValidationError: `train` names no tensors of the model, or not in its order.
        TrainingError: NaN or infinity came up.
    """
    config = msgspec.structs.replace(work.plan.model.base, trainable=train)
    model = folded(work.plan.model, model)
    alone = Work(revise(work.plan, model=config), Privacy.NONE, settings, work.seed)
    scores: dict[int, Evaluation] = {}
    # A round after the last, so that no generator is one of the rounds'.
    number = work.plan.rounds + 1
    with Trainers(alone, clients, processes) as trainers:
        for members, updates in trainers.updates(model, number, range(clients.persons)):
            for person, update in zip(members, updates, strict=True):
                own = apply(config, model, update.astype(np.float64))
                scores[person] = evaluate(config, own, [newer[person]])
    return [scores[person] for person in range(clients.persons)]

"""pfl-research: its simulated backend with PyTorch, one process. `pfl_rounds.py COHORT ROUNDS`."""

import sys

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism
from torch import Tensor, nn
from work import (
    BATCH,
    CLIP_NORM,
    EMBEDDING,
    HIDDEN,
    LEARNING_RATE,
    NOISE_MULTIPLIER,
    VOCABULARY,
    Clock,
    all_windows,
)


class _Model(nn.Module):
    """What pfl asks of a model: `loss` and `metrics`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, EMBEDDING)
        self.gru = nn.GRU(EMBEDDING, HIDDEN, batch_first=True)
        self.output = nn.Linear(HIDDEN, VOCABULARY)

    def loss(self, windows: Tensor, *, eval: bool = False) -> Tensor:  # noqa: A002
        self.train(not eval)
        logits = self.output(self.gru(self.embedding(windows[:, :-1]))[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    def metrics(self, windows: Tensor, *, eval: bool = True) -> dict[str, object]:  # noqa: A002
        """None: nobody is evaluated."""
        return {}


class _Rounds(TrainingProcessCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: object, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """A round is over; go on."""
        self._clock.end_round()
        return False, Metrics()


def main() -> None:
    """Measure."""
    cohort, rounds = int(sys.argv[1]), int(sys.argv[2])
    windows = torch.from_numpy(all_windows(cohort))
    np.random.seed(0)  # noqa: NPY002  pfl's own generator
    clock = Clock("pfl-research, one process", cohort)
    users = list(range(cohort))
    data = FederatedDataset(
        lambda user: Dataset(raw_data=[windows[user]]), get_user_sampler("minimize_reuse", users)
    )
    module = _Model()
    model = PyTorchModel(
        module,
        torch.optim.SGD,
        torch.optim.SGD(module.parameters(), lr=1.0),
    )
    mechanism = CentrallyAppliedPrivacyMechanism(GaussianMechanism(CLIP_NORM, NOISE_MULTIPLIER))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=rounds + 1,
            train_cohort_size=cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(data, data, postprocessors=[mechanism]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=LEARNING_RATE, local_batch_size=BATCH
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=BATCH),
        callbacks=[_Rounds(clock)],
    )
    clock.report()


if __name__ == "__main__":
    main()

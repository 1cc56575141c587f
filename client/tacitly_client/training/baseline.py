"""How the lab's baseline trains: shuffled epochs of minibatch SGD, without any privacy.

Apart from `local.py`, which loads Opacus: a process that only needs these loads in half the time.
"""

from dataclasses import dataclass

from tacitly_common.errors import TacitlyError
from tacitly_common.validation import in_range, non_negative, positive


class TrainingError(TacitlyError):
    """The baseline left the finite numbers; there is no update. The message holds no value."""


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """Shuffled epochs of minibatch SGD.

    `momentum` is torch's (no dampening); it starts anew with each call. `proximal` is FedProx's μ
    (Li et al. 2020, "Federated optimization in heterogeneous networks", Algorithm 2): each step
    also descends μ/2 |w - start|^2, whose gradient is μ·(w - start). 0 is plain SGD.
    """

    epochs: int
    batch_windows: int
    learning_rate: float
    momentum: float = 0.0
    proximal: float = 0.0

    def __post_init__(self) -> None:
        positive(
            epochs=self.epochs,
            batch_windows=self.batch_windows,
            learning_rate=self.learning_rate,
        )
        in_range(0, 0.999, momentum=self.momentum)
        non_negative(proximal=self.proximal)

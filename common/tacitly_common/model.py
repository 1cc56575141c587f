"""The interaction model: embedding -> one GRU layer -> linear output over the vocabulary.

`ModelConfig` says its shape; this module builds it in torch and moves it to and from the flat
vector that travels. Training does not run through `forward` (client: training/gradient.py
computes the same function by hand); evaluation and the person's suggestions do.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacitly_common.model_config import ModelConfig, check_vector, folded
from tacitly_common.model_config import initial_vector as initial_vector


class InteractionModel(nn.Module):
    """Scores of the next token after each token of a stream.

    The parameters are uninitialised until `load_vector`: there is one initialisation,
    `initial_vector`, and it draws nothing from torch's global generator. Adapters are folded into
    the maps they adapt: the module is that of `config.base`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # On "meta" the layers draw no random numbers and hold no memory until to_empty.
        with torch.device("meta"):
            self.embedding = nn.Embedding(config.vocabulary_size, config.embedding)
            self.gru = nn.GRU(config.embedding, config.hidden, batch_first=True)
            self.output = nn.Linear(config.hidden, config.vocabulary_size)
        self.to_empty(device="cpu")

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits float32[batch, time, vocabulary] from tokens int64[batch, time]."""
        logits, _ = self.advance(tokens, None)
        return logits

    def advance(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """`forward` from a hidden state (None: zero), and the state after the last token.

        The state is float32[1, batch, hidden].
        """
        hidden, state = self.gru(self.embedding(tokens), state)
        return self.output(hidden), state


def named_tensors(config: ModelConfig, vector: NDArray[np.float32]) -> dict[str, Tensor]:
    """The tensors of a flat vector by name, as copies.

    Raises:
        ValidationError: not float32[config.parameters].
    """
    check_vector(config, vector)
    whole = torch.from_numpy(vector.copy())
    return {t.name: whole[t.start : t.stop].reshape(t.shape) for t in config.layout()}


def load_vector(model: InteractionModel, vector: NDArray[np.float32]) -> None:
    """Set every parameter of `model` from a flat vector.

    Raises:
        ValidationError: not float32[parameters]; nothing was changed.
    """
    config = model.config
    model.load_state_dict(named_tensors(config.base, folded(config, vector)))


def to_vector(model: InteractionModel) -> NDArray[np.float32]:
    """The flat vector of `model`, float32[config.base.parameters].

    The inverse of `load_vector` where there are no adapters; else what `folded` gives.
    """
    state = model.state_dict()
    parts = [state[tensor.name].reshape(-1) for tensor in model.config.base.layout()]
    return torch.cat(parts).numpy()

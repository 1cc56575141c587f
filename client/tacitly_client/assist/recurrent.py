"""The released model's forward step in numpy: what `common/model.py` computes with torch.

torch takes seconds and 200 MB to load; a process that suggests runs one small step at a time and
needs neither. `tests/client/test_assist_recurrent.py` holds both to the same numbers.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tacitly_common.model_config import ModelConfig, folded

States = NDArray[np.float32]  # [rows, hidden]


class RecurrentModel:
    """A model of a configuration. Immutable; states are passed in and out.

    One GRU layer (Cho et al. 2014, in torch's form: the reset gate applies after the product):

        r = s(Wir x + bir + Whr h + bhr)        z = s(Wiz x + biz + Whz h + bhz)
        n = tanh(Win x + bin + r (Whn h + bhn))    h' = (1 - z) n + z h
    """

    __slots__ = ("_bias", "_hidden", "_input", "_output", "_output_bias", "_recurrent")

    def __init__(self, config: ModelConfig, vector: NDArray[np.float32]) -> None:
        """The model of a flat vector, float32[config.parameters].

        Raises:
            ValidationError: not a vector of this configuration.
        """
        whole = folded(config, vector)
        part = {t.name: whole[t.start : t.stop].reshape(t.shape) for t in config.base.layout()}
        self._hidden: Final = config.hidden
        # What a token adds to the gates does not depend on the state: a table of all tokens.
        self._input = part["embedding.weight"] @ part["gru.weight_ih_l0"].T
        self._input += part["gru.bias_ih_l0"]
        self._recurrent = np.ascontiguousarray(part["gru.weight_hh_l0"].T)
        self._bias = part["gru.bias_hh_l0"].copy()
        self._output = np.ascontiguousarray(part["output.weight"].T)
        self._output_bias = part["output.bias"].copy()

    @property
    def vocabulary_size(self) -> int:
        """Number of tokens."""
        return len(self._output_bias)

    def begin(self) -> States:
        """The state before any token: float32[1, hidden]."""
        return np.zeros((1, self._hidden), dtype=np.float32)

    def advance(self, states: States, tokens: NDArray[np.int64]) -> States:
        """The states after one token each: tokens int64[rows]."""
        h = self._hidden
        given, held = self._input[tokens], states @ self._recurrent + self._bias
        gates = _logistic(given[:, : 2 * h] + held[:, : 2 * h])
        reset, update = gates[:, :h], gates[:, h:]
        new = np.tanh(given[:, 2 * h :] + reset * held[:, 2 * h :])
        advanced: States = new + update * (states - new)
        return advanced

    def probabilities(self, states: States) -> NDArray[np.float64]:
        """The distribution of the next token in each state: float64[rows, vocabulary]."""
        logits = (states @ self._output + self._output_bias).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        result: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result


def _logistic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1/(1 + exp(-x)) by tanh, which does not overflow."""
    result: NDArray[np.float32] = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
    return result

"""The model's shape without the model: what a process that must not load torch knows of it.

The flat parameter vector is float32, the tensors of `layout` in that order, each in C order.
`model.py` builds the torch module of a config; `tests/common/test_model.py` holds both together.
"""

import hashlib
import math
from dataclasses import dataclass
from math import prod

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_common.errors import ValidationError
from tacitly_common.validation import in_range


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named part of the flat vector: `vector[start:stop].reshape(shape)`."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return prod(self.shape)

    @property
    def stop(self) -> int:
        """One past the last coordinate."""
        return self.start + self.size


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Embedding -> one GRU layer -> linear output over the vocabulary.

    `trainable` names the tensors a device may change ("all tensors" if empty): an update, its
    clip, its noise and its bytes cover only those. Fewer trained coordinates need less noise for
    the same ε: the norm of the noise grows with the square root of their number.
    """

    vocabulary_size: int
    embedding: int = 32
    hidden: int = 128
    trainable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        in_range(2, 65_536, vocabulary_size=self.vocabulary_size)
        in_range(1, 4_096, embedding=self.embedding, hidden=self.hidden)
        known = [tensor.name for tensor in self.layout()]
        for name in self.trainable:
            if name not in known:
                raise ValidationError(f"trainable names {name!r}; the tensors are {known}")
        if list(self.trainable) != [name for name in known if name in self.trainable]:
            raise ValidationError(f"trainable must name tensors once, in the order of {known}")

    def layout(self) -> tuple[Tensor, ...]:
        """Every tensor in the order of the flat vector. Names and shapes are torch's own."""
        v, e, h = self.vocabulary_size, self.embedding, self.hidden
        shapes: dict[str, tuple[int, ...]] = {
            "embedding.weight": (v, e),
            "gru.weight_ih_l0": (3 * h, e),
            "gru.weight_hh_l0": (3 * h, h),
            "gru.bias_ih_l0": (3 * h,),
            "gru.bias_hh_l0": (3 * h,),
            "output.weight": (v, h),
            "output.bias": (v,),
        }
        tensors: list[Tensor] = []
        start = 0
        for name, shape in shapes.items():
            tensors.append(Tensor(name, shape, start))
            start = tensors[-1].stop
        return tuple(tensors)

    def trainable_layout(self) -> tuple[Tensor, ...]:
        """The tensors an update covers, with their places in the *full* vector."""
        return tuple(t for t in self.layout() if not self.trainable or t.name in self.trainable)

    @property
    def parameters(self) -> int:
        """Length of the full flat vector."""
        return self.layout()[-1].stop

    @property
    def trainable_parameters(self) -> int:
        """Length of an update."""
        return sum(tensor.size for tensor in self.trainable_layout())

    def hash(self) -> str:
        """SHA-256, hex, of the canonical JSON of the architecture and its layout."""
        layout = [(t.name, t.shape, t.start) for t in self.layout()]
        document = {"architecture": "gru", "config": self, "layout": layout}
        return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def initial_vector(config: ModelConfig, seed: int) -> NDArray[np.float32]:
    """The parameters a campaign starts from: float32[config.parameters], the same on any machine.

    Embedding ~ N(0, 1); weights and biases ~ U(-a, a) with a = 1/sqrt(hidden): torch's own
    defaults, drawn from numpy's PCG64 of `seed`.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    bound = 1 / math.sqrt(config.hidden)
    parts = [
        rng.standard_normal(tensor.size)
        if tensor.name == "embedding.weight"
        else rng.uniform(-bound, bound, tensor.size)
        for tensor in config.layout()
    ]
    return np.concatenate(parts).astype(np.float32)

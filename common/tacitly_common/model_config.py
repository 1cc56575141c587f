"""The model's shape without the model: what a process that must not load torch knows of it.

The flat parameter vector is float32, the tensors of `layout` in that order, each in C order.
Adapters come last: the vector of a model with them begins with that of the model without.
`model.py` builds the torch module of a config; `tests/common/test_model.py` holds both together.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Final

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from tacitly_common.errors import ValidationError
from tacitly_common.validation import in_range

# The linear maps that have an adapter, and the names of its D and U.
ADAPTERS: Final = {
    "gru.weight_hh_l0": ("gru.down", "gru.up"),
    "output.weight": ("output.down", "output.up"),
}


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

    With an `adapter_rank` r the recurrent and the output map are W + U D, with D [r, inputs] and
    U [outputs, r], named `down` and `up` (LoRA: Hu et al. 2022, section 4.1, without its factor
    α/r). A model begins with D drawn and U zero: what it computes is what it would without them.
    `trainable` must then name one at least. Left out, there are none.
    """

    vocabulary_size: int
    embedding: int = 32
    hidden: int = 128
    trainable: tuple[str, ...] = ()
    # Not a number with a default: what is left out is not encoded, so hashes from before it stay.
    adapter_rank: int | UnsetType = UNSET

    def __post_init__(self) -> None:
        in_range(2, 65_536, vocabulary_size=self.vocabulary_size)
        in_range(1, 4_096, embedding=self.embedding, hidden=self.hidden)
        if self.adapter_rank is not UNSET:
            # Of a higher rank they could say no more, in more numbers.
            in_range(1, min(self.hidden, self.vocabulary_size), adapter_rank=self.adapter_rank)
        known = [tensor.name for tensor in self.layout()]
        for name in self.trainable:
            if adapts([name]) and self.adapter_rank is UNSET:
                raise ValidationError(f"trainable names the adapter {name!r}; give an adapter_rank")
            if name not in known:
                raise ValidationError(f"trainable names {name!r}; the tensors are {known}")
        if list(self.trainable) != [name for name in known if name in self.trainable]:
            raise ValidationError(f"trainable must name tensors once, in the order of {known}")
        if self.adapter_rank is not UNSET and not adapts(self.trainable):
            named = ", ".join(name for pair in ADAPTERS.values() for name in pair)
            raise ValidationError(
                f"adapter_rank is {self.adapter_rank} and trainable names no adapter; name those "
                f"that train ({named}), or leave adapter_rank out"
            )

    def layout(self) -> tuple[Tensor, ...]:
        """Every tensor in the order of the flat vector: torch's own names and shapes, adapters."""
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
        if self.adapter_rank is not UNSET:
            for weight, (down, up) in ADAPTERS.items():
                outputs, inputs = shapes[weight]
                shapes[down] = (self.adapter_rank, inputs)
                shapes[up] = (outputs, self.adapter_rank)
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

    @property
    def base(self) -> "ModelConfig":
        """The same model without adapters, all of it trainable: the first part of the vector."""
        return msgspec.structs.replace(self, trainable=(), adapter_rank=UNSET)

    def hash(self) -> str:
        """SHA-256, hex, of the canonical JSON of the architecture and its layout."""
        layout = [(t.name, t.shape, t.start) for t in self.layout()]
        document = {"architecture": "gru", "config": self, "layout": layout}
        return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def adapts(names: Iterable[str]) -> bool:
    """Whether an adapter is among these tensors."""
    return any(name in pair for name in names for pair in ADAPTERS.values())


def initial_vector(config: ModelConfig, seed: int) -> NDArray[np.float32]:
    """The parameters a campaign starts from: float32[config.parameters], the same on any machine.

    Embedding ~ N(0, 1); weights, biases and what adapters begin with, D, ~ U(-a, a) with
    a = 1/sqrt(hidden): torch's own defaults, drawn from numpy's PCG64 of `seed`. U is zero.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    bound = 1 / math.sqrt(config.hidden)
    ups = {up for _, up in ADAPTERS.values()}
    parts = [
        rng.standard_normal(tensor.size)
        if tensor.name == "embedding.weight"
        else np.zeros(tensor.size)
        if tensor.name in ups
        else rng.uniform(-bound, bound, tensor.size)
        for tensor in config.layout()
    ]
    return np.concatenate(parts).astype(np.float32)


def with_adapters(config: ModelConfig, base: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """A model of `config` that computes what `base`, float32[config.base.parameters], does.

    Its adapters are those of `initial_vector`; without an `adapter_rank` it is `base` itself.

    Raises:
        ValidationError: `base` is no vector of `config.base`.
    """
    check_vector(config.base, base)
    return np.concatenate([base, initial_vector(config, seed)[len(base) :]])


def folded(config: ModelConfig, vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The model of `config.base` that computes what `vector` does: each W + U D in its W's place.

    Raises:
        ValidationError: not float32[config.parameters].
    """
    check_vector(config, vector)
    if config.adapter_rank is UNSET:
        return vector
    part = {t.name: vector[t.start : t.stop].reshape(t.shape) for t in config.layout()}
    whole = vector[: config.base.parameters].copy()
    for tensor in config.base.layout():
        if tensor.name in ADAPTERS:
            down, up = ADAPTERS[tensor.name]
            whole[tensor.start : tensor.stop] += (part[up] @ part[down]).reshape(-1)
    return whole


def check_vector(config: ModelConfig, vector: NDArray[np.float32]) -> None:
    """Return if this can be a model of this configuration.

    Raises:
        ValidationError: not float32[config.parameters].
    """
    if vector.shape != (config.parameters,) or vector.dtype != np.float32:
        raise ValidationError(
            f"a model of this configuration is float32[{config.parameters}], "
            f"got {vector.dtype}{list(vector.shape)}"
        )

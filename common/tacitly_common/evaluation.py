"""How well a model predicts held-out streams: top-1, top-3, perplexity.

Runs where the data may be seen: on the person's own machine, or in the lab. Nothing of it goes
into a reply. A stream is predicted token by token in its order, with the hidden state carried
from its beginning; before the first token the model sees only START.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacitly_common.model import InteractionModel, load_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import START, UNKNOWN

# Bounds the logits in memory: [streams, steps, vocabulary] float32.
_STEPS_AT_ONCE: Final = 128
_STREAMS_AT_ONCE: Final = 64
_NO_GUESSES: Final = (START, UNKNOWN)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Counts over held-out predictions; `+` pools persons, so that each prediction counts once.

    START is context and never a prediction. Neither START nor UNKNOWN is a guess: nobody could be
    offered them, so the next most likely token takes their place. An UNKNOWN target counts as a
    prediction, and always as a miss. The likelihood is over all tokens, as the model gave it.

    | predictions | top1, top3 | perplexity |
    |-------------|------------|------------|
    | 0           | nan        | nan        |
    """

    predictions: int
    top1_hits: int
    top3_hits: int
    negative_log_likelihood: float

    @property
    def top1(self) -> float:
        """Share of predictions whose most likely token came."""
        return self.top1_hits / self.predictions if self.predictions else math.nan

    @property
    def top3(self) -> float:
        """Share of predictions where one of the three most likely tokens came."""
        return self.top3_hits / self.predictions if self.predictions else math.nan

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood (natural logarithm)."""
        if not self.predictions:
            return math.nan
        return math.exp(self.negative_log_likelihood / self.predictions)

    def __add__(self, other: "Evaluation") -> "Evaluation":
        return Evaluation(
            self.predictions + other.predictions,
            self.top1_hits + other.top1_hits,
            self.top3_hits + other.top3_hits,
            self.negative_log_likelihood + other.negative_log_likelihood,
        )


NOTHING: Final = Evaluation(0, 0, 0, 0.0)


def evaluate(
    config: ModelConfig, vector: NDArray[np.float32], streams: Sequence[NDArray[np.int64]]
) -> Evaluation:
    """`evaluate_each`, pooled over the streams."""
    return sum(evaluate_each(config, vector, streams), NOTHING)


def evaluate_each(
    config: ModelConfig,
    vector: NDArray[np.float32],
    streams: Sequence[NDArray[np.int64]],
    *,
    only: Collection[int] | None = None,
) -> list[Evaluation]:
    """One evaluation for each stream, int64[n], in their order.

    With `only`, predictions whose target is none of these tokens are context alone: they are
    not counted, and any token that may be a guess may still be it.

    Raises:
        ValidationError: the vector is not a model of this configuration.
    """
    model = InteractionModel(config)
    load_vector(model, vector)
    targets = None if only is None else torch.tensor(sorted(only), dtype=torch.int64)
    evaluations = [NOTHING] * len(streams)
    # Streams of about one length side by side: padding costs as much as what it pads.
    order = sorted(range(len(streams)), key=lambda place: -len(streams[place]))
    with torch.inference_mode():
        for first in range(0, len(order), _STREAMS_AT_ONCE):
            places = order[first : first + _STREAMS_AT_ONCE]
            counts = _side_by_side(model, [streams[place] for place in places], targets)
            for place, (predictions, top1, top3, likelihood) in zip(
                places, counts.t(), strict=True
            ):
                evaluations[place] = Evaluation(
                    int(predictions), int(top1), int(top3), float(likelihood)
                )
    return evaluations


def _side_by_side(
    model: InteractionModel, streams: Sequence[NDArray[np.int64]], only: Tensor | None
) -> Tensor:
    """`_counts` of whole streams, the longest first: float64[4, streams]."""
    longest = len(streams[0])
    # START in front as context, and behind as padding.
    padded = np.full((len(streams), longest + 1), START)
    for row, stream in zip(padded, streams, strict=True):
        row[1 : len(stream) + 1] = stream
    tokens = torch.from_numpy(padded)
    counts = torch.zeros(4, len(streams), dtype=torch.float64)
    state: Tensor | None = None
    for start in range(0, longest, _STEPS_AT_ONCE):
        left = sum(len(stream) > start for stream in streams)
        targets = tokens[:left, start + 1 : start + 1 + _STEPS_AT_ONCE]
        counted = targets != START
        if only is not None:
            counted &= torch.isin(targets, only)
        inputs = tokens[:left, start : start + targets.shape[1]]
        logits, state = model.advance(inputs, None if state is None else state[:, :left])
        counts[:, :left] += _counts(logits, targets, counted)
    return counts


def _counts(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Predictions, hits among 1 and 3, negative log-likelihood of each row: float64[4, rows].

    `logits` are overwritten.
    """
    # Flat: torch takes three times as long over classes in the middle.
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none"
    ).view_as(targets)
    logits[:, :, _NO_GUESSES] = -torch.inf
    guesses = logits.topk(min(3, logits.shape[2]), dim=2).indices
    # A table of fewer than five tokens still has one of them among its three.
    hits = (guesses == targets.unsqueeze(2)) & (targets != UNKNOWN).unsqueeze(2)
    return torch.stack(
        [
            counted.sum(1),
            (hits[:, :, 0] & counted).sum(1),
            (hits.any(2) & counted).sum(1),
            (losses.double() * counted).sum(1),
        ]
    )

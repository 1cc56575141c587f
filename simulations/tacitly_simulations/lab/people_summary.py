"""Who a study's people are: how much they wrote, how they differ, what counts predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from scipy.spatial.distance import jensenshannon

from tacitly_common.vocabulary import START
from tacitly_simulations.ngram import pooled_ngram
from tacitly_simulations.population import Client

_ORDERS: Final = {"unigram": 1, "bigram": 2, "trigram": 3, "5-gram": 5}


class Predictor(msgspec.Struct, frozen=True, kw_only=True):
    """How well counts of everybody's older tokens predict the newest fifths. Never private."""

    method: str
    top1: float
    top3: float
    perplexity: float


class PeopleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Without session starts. `divergence` is the mean over persons of the Jensen-Shannon
    divergence, in bits, between a person's tokens and everybody's: 0 if all type alike, at most 1.
    """

    persons: int
    tokens: int
    tokens_least: int
    tokens_median: int
    tokens_most: int
    divergence: float
    predictors: list[Predictor]


def summary_of(clients: Sequence[Client]) -> PeopleSummary:
    """The summary of recorded persons."""
    streams = [client.tokens[client.tokens != START] for client in clients]
    size = 1 + max(int(stream.max(initial=0)) for stream in streams)
    counts = np.stack([np.bincount(stream, minlength=size) for stream in streams])
    # scipy's distance is the square root of the divergence.
    distances = jensenshannon(counts.T, counts.sum(axis=0)[:, None], base=2)
    lengths = counts.sum(axis=1)
    return PeopleSummary(
        persons=len(clients),
        tokens=int(lengths.sum()),
        tokens_least=int(lengths.min()),
        tokens_median=int(np.median(lengths)),
        tokens_most=int(lengths.max()),
        divergence=float((distances**2).mean()),
        predictors=[_predictor(method, order, clients) for method, order in _ORDERS.items()],
    )


def read_summary(path: Path) -> PeopleSummary | None:
    """None where the study's points have different people."""
    return msgspec.json.decode(path.read_bytes(), type=PeopleSummary) if path.exists() else None


def _predictor(method: str, order: int, clients: Sequence[Client]) -> Predictor:
    score = pooled_ngram([client.tokens for client in clients], order)
    return Predictor(method=method, top1=score.top1, top3=score.top3, perplexity=score.perplexity)

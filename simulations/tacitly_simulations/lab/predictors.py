"""What needs no training, beside a study's rows: n-gram counts over the same people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tacitly_simulations.ngram import pooled_ngram
from tacitly_simulations.population import Client

_ORDERS: Final = {"unigram": 1, "bigram": 2, "trigram": 3, "5-gram": 5}
PREDICTORS_FILE: Final = "predictors.json"


class Predictor(msgspec.Struct, frozen=True, kw_only=True):
    """How well counts of everybody's tokens predict the newest fifths."""

    method: str
    top1: float
    top3: float
    perplexity: float


def score_predictors(clients: Sequence[Client]) -> list[Predictor]:
    """Pooled counts, as nobody who keeps data apart could make them; never private."""
    streams = [client.tokens for client in clients]
    scores = {method: pooled_ngram(streams, order) for method, order in _ORDERS.items()}
    return [
        Predictor(method=method, top1=score.top1, top3=score.top3, perplexity=score.perplexity)
        for method, score in scores.items()
    ]


def read_predictors(out: Path) -> list[Predictor]:
    """Those of the study in `out`; none, if its points have different people."""
    path = out / PREDICTORS_FILE
    if not path.exists():
        return []
    return msgspec.json.decode(path.read_bytes(), type=list[Predictor])

"""Whose events the demo runs on, and the public model it starts from."""

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tacitly_client.training.baseline import PlainSettings
from tacitly_client.training.local import train_without_privacy
from tacitly_client.training.windows import training_windows
from tacitly_common.campaign import Family, Level, RecordMechanism, TokenPlan
from tacitly_common.model import initial_vector
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import VOCABULARY_VERSION, Vocabulary
from tacitly_simulations.datasets import DatasetError, Person, load
from tacitly_simulations.datasets.synthetic import public_text_person, synthetic_person

_EVENTS: Final = 20_000  # of a synthetic person: some 9,000 tokens
_PUBLIC_EVENTS: Final = 120_000
_PUBLIC_SEED: Final = 1_000
_START_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Cast:
    """The people of a demo run, what their events are, and how a plan turns them into tokens."""

    label: str
    tokens: TokenPlan
    people: tuple[Person, ...] = field(repr=False)


def synthetic_cast(people: int) -> Cast:
    """Made-up typists and pointer users over text that ships with Python."""
    return Cast(
        "Synthetic data: made-up typists, text that ships with Python. Nobody's events.",
        _tokens(tuple(sorted(Family))),
        tuple(synthetic_person(seed, _EVENTS) for seed in range(people)),
    )


def coauthor_cast(directory: Path, people: int) -> Cast:
    """The first writers of the CoAuthor recordings.

    Raises:
        DatasetError: the folder is not CoAuthor's, or holds fewer people.
    """
    writers = tuple(islice(load("coauthor", directory), people))
    if len(writers) < people:
        raise DatasetError(f"{directory} holds {len(writers)} people; ask for at most as many")
    return Cast(
        "Real people's events: CoAuthor (Lee, Liang and Yang 2022), CC BY-SA 4.0.",
        _tokens((Family.KEYS,)),
        writers,
    )


def public_model(
    config: ModelConfig, tokens: TokenPlan, record: RecordMechanism
) -> NDArray[np.float32]:
    """A start that knows some English and nobody: float32[parameters].

    Three passes over typed public text, none of it the typists'. Every tensor learns here,
    whichever the plan trains later.
    """
    typed = public_text_person(_PUBLIC_SEED, _PUBLIC_EVENTS)
    stream = Vocabulary(TokenPlan(
        vocabulary_version=tokens.vocabulary_version, level=tokens.level, families=(Family.KEYS,)
    )).encode(typed.events)  # fmt: skip
    whole = ModelConfig(
        vocabulary_size=config.vocabulary_size, embedding=config.embedding, hidden=config.hidden
    )
    rng = np.random.default_rng(_START_SEED)
    model = initial_vector(whole, _START_SEED)
    # All of the text, not a person's newest windows alone.
    windows = training_windows(stream, msgspec.structs.replace(record, max_windows=1_000_000))
    for learning_rate in (0.5, 0.5, 0.2):
        settings = PlainSettings(
            epochs=1, batch_windows=8, learning_rate=learning_rate, momentum=0.9
        )
        model = model + train_without_privacy(whole, model, windows, settings, rng)
    return model


def _tokens(families: tuple[Family, ...]) -> TokenPlan:
    return TokenPlan(
        vocabulary_version=VOCABULARY_VERSION, level=Level.CHARACTERS, families=families
    )

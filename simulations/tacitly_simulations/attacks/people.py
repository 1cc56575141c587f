"""The persons of an attack, and the model over what they do: recorded ones if a data set is named,
else synthetic typists.
"""

from itertools import islice
from pathlib import Path

from tacitly_common.campaign import TokenPlan
from tacitly_common.model_config import ModelConfig
from tacitly_common.vocabulary import Vocabulary
from tacitly_simulations.datasets import DatasetError, load
from tacitly_simulations.datasets.person import Person
from tacitly_simulations.datasets.synthetic import synthetic_person
from tacitly_simulations.population import token_plan

# A data set's name and folder; None stands for synthetic persons.
Source = tuple[str, Path] | None


def persons(source: Source, count: int, events: int) -> list[Person]:
    """So many persons, of each the first `events` events.

    Raises:
        DatasetError: the data set cannot be read, or has too few such persons.
    """
    if source is None:
        return [synthetic_person(number, events) for number in range(count)]
    people = list(islice(filter(None, (_cut(person, events) for person in load(*source))), count))
    if len(people) < count:
        raise DatasetError(
            f"{source[0]} has {len(people)} persons of {events} events, {count} are needed; "
            "ask for fewer of either"
        )
    return people


def modelled(
    source: Source, *, embedding: int, hidden: int
) -> tuple[TokenPlan, Vocabulary, ModelConfig]:
    """What a data set's events become: its tokens, their vocabulary, and a model over it."""
    tokens = token_plan(source[0] if source else "coauthor")
    vocabulary = Vocabulary(tokens)
    model = ModelConfig(vocabulary_size=vocabulary.size, embedding=embedding, hidden=hidden)
    return tokens, vocabulary, model


def source_name(source: Source) -> str:
    """What reports call it."""
    return "synthetic persons" if source is None else source[0]


def _cut(person: Person, events: int) -> Person | None:
    """The person's first so many events; None if they have fewer."""
    sessions, left = [], events
    for session in person.sessions:
        sessions.append(session[:left])
        left -= len(sessions[-1])
        if not left:
            return Person(person.id, tuple(sessions))
    return None

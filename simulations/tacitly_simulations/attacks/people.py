"""The persons of an attack: recorded ones if a data set is named, else synthetic typists."""

from itertools import islice
from pathlib import Path

from tacitly_simulations.datasets import DatasetError, load
from tacitly_simulations.datasets.person import Person
from tacitly_simulations.datasets.synthetic import synthetic_person

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

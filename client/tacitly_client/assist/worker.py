"""The process that suggests to other programs: python -m tacitly_client.assist.worker --home DIR

Started by the vault, whose confinement it inherits: no network. It reads questions from stdin and
writes answers to stdout (exchange.py). It may open the store, and holds what it learned from it in
memory alone; so it ends, and the next question begins another,

- when an event file that it learned from is gone: nothing erased is held on to;
- when there is another model, or it is ten minutes old: to know what came since;
- after `trainer_linger_seconds` without a question: an idle agent holds no model.
"""

import io
import os
import select
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import click

if TYPE_CHECKING:
    from tacitly_client.assist.exchange import Answer, Question
    from tacitly_client.assist.suggester import Suggester
    from tacitly_client.home import AgentHome
    from tacitly_common.contract.model_receipt import VerifiedModel

_LIFE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 1.0


@click.command()
@click.option("--home", required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--parent-pid", type=int, help="End when this process ends.")
def main(home: Path, parent_pid: int | None) -> None:
    """Suggest for the agent whose directory is --home. Started by the vault, not by hand."""
    from tacitly_client.home import AgentHome
    from tacitly_client.processes import forbid_dumps, use_one_core
    from tacitly_common.errors import TacitlyError
    from tacitly_common.processes import end_with_parent

    if parent_pid is not None:
        end_with_parent(parent_pid)
    forbid_dumps()
    use_one_core()
    # Unbuffered: bytes of a next question must stay in the pipe, where `select` sees them.
    questions = io.BufferedReader(io.FileIO(os.dup(0), "rb"), buffer_size=1)
    answers = io.BufferedWriter(io.FileIO(os.dup(1), "wb"))
    os.dup2(2, 1)
    try:
        serve(AgentHome(home), questions, answers)
    except TacitlyError as error:
        print(f"tacitly suggestions: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def serve(home: "AgentHome", questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there is a reason to end.

    Raises:
        TacitlyError: the home has no usable settings, or a question is malformed.
    """
    from tacitly_client.assist.exchange import Answer, Question, read_line, write_line
    from tacitly_client.home import read_settings
    from tacitly_common.errors import TacitlyError

    patience = read_settings(home).trainer_linger_seconds
    engine: _Engine | None = None
    asked = time.monotonic()
    while time.monotonic() - asked < patience:
        waiting = bool(select.select([questions], [], [], _LOOK_SECONDS)[0])
        if engine is not None and engine.outlived():
            return
        if not waiting:
            continue
        question = read_line(questions, Question)
        if question is None:
            return
        asked = time.monotonic()
        try:
            engine = engine or _Engine(home)
            answer = engine.answer(question)
        except TacitlyError as error:
            answer = Answer(problem=str(error))
        write_line(answers, answer)


class _Engine:
    """What was loaded, and the state of the files that it was loaded from."""

    def __init__(self, home: "AgentHome") -> None:
        """Raises what reading officers' log and model does."""
        from tacitly_client.assist.recurrent import RecurrentModel
        from tacitly_client.models import Models
        from tacitly_common.vocabulary import Vocabulary

        self._home = home
        self._until = time.monotonic() + _LIFE_SECONDS
        # Taken before reading: what changes meanwhile is seen.
        self._events, self._sources = _events(home), _sources(home)
        self._model: VerifiedModel = Models.open(home).newest()
        self._vocabulary: Vocabulary = Vocabulary(self._model.plan.tokens)
        self._recurrent = RecurrentModel(self._model.plan.model, self._model.vector)
        self._suggesters: dict[bool, Suggester] = {}

    def outlived(self) -> bool:
        """Whether another process should answer."""
        return (
            time.monotonic() >= self._until
            or not self._events <= _events(self._home)
            or self._sources != _sources(self._home)
        )

    def answer(self, question: "Question") -> "Answer":
        """The suggestions. A damaged part of the store plays no part; `suggest` tells of it.

        Raises:
            StoreError: the store cannot be read.
        """
        from tacitly_client.assist.exchange import MOST_TYPED, Answer, Offer
        from tacitly_client.assist.history import typed_tokens

        tokens = typed_tokens(question.typed[-MOST_TYPED:], self._vocabulary)
        found = self._suggester(with_head=question.with_head).suggest(tokens, question.most)
        return Answer(
            plan_hash=self._model.receipt.plan_hash,
            round=self._model.receipt.round,
            offers=tuple(
                Offer(kind=each.kind.value, text=each.text, probability=each.probability)
                for each in found
            ),
        )

    def _suggester(self, *, with_head: bool) -> "Suggester":
        from tacitly_client.assist.head import PersonalHead
        from tacitly_client.assist.history import person_tokens
        from tacitly_client.assist.suggester import Suggester

        if with_head not in self._suggesters:
            head = None
            if with_head:
                tokens = person_tokens(self._home.store, self._vocabulary, lambda _damage: None)
                head = PersonalHead.learn(tokens, self._recurrent)
            self._suggesters[with_head] = Suggester(self._recurrent, self._vocabulary, head)
        return self._suggesters[with_head]


def _events(home: "AgentHome") -> frozenset[Path]:
    """The files that hold events. Erasing from one replaces it by another, or by none."""
    return frozenset(home.store.rglob("*.seg"))


def _sources(home: "AgentHome") -> list[tuple[str, int, int]]:
    """What differs when model, officers' log or joined campaign are others."""
    paths = [*home.models.glob("*"), home.contract, home.plan]
    states = ((path, path.stat()) for path in paths if path.exists())
    return sorted((str(path), state.st_ino, state.st_mtime_ns) for path, state in states)


if __name__ == "__main__":
    main()

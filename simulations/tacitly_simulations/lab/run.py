"""A whole study: its points one after the other, into one folder, going on where it was killed.

    out/
      study.json          the study, as it was read
      environment.json    versions, hash of the data, commit
      people.json         who the people are and what counts predict, where all points have the same
      points/KEY/         a point that is running: its campaign's checkpoint
      rows/KEY.json       a point that is finished
      times/KEY.json      how long it took (no part of the results)
      results.parquet     all rows, when the study is finished
      report.html         the same with plots

A point of the batched engine goes on from its last round, and everything is seeded: a killed study
ends in the same `results.parquet`, to the byte. A point of Flower's engine begins again, and its
noise is drawn from a secure source.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tacitly_common.campaign import CampaignPlan
from tacitly_server.rounds.receipts import Receipt
from tacitly_simulations.datasets import load
from tacitly_simulations.engines.pool import load_ahead
from tacitly_simulations.lab.description import Engine, Point, Study, StudyError
from tacitly_simulations.lab.environment import Environment, environment_of
from tacitly_simulations.lab.people_summary import PeopleSummary, read_summary, summary_of
from tacitly_simulations.lab.point import People, Row, Watching, run_point, spent_epsilon
from tacitly_simulations.lab.results import write_results
from tacitly_simulations.population import LEAST_TOKENS, clients, tokenizer

SCHEMA_VERSION: Final = 1
_SECONDS_BETWEEN_WORDS: Final = 5.0
_Document = TypeVar("_Document", Study, Environment)


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """How long a point took, in seconds of this run; client-rounds of this run alone."""

    seconds: float
    client_rounds: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What `tacitly-sim run STUDY.toml --format json` prints."""

    schema_version: int = SCHEMA_VERSION
    study: str
    engine: Engine
    environment: Environment
    points: int
    people: PeopleSummary | None
    rows: list[Row]


def run_study(
    study: Study,
    out: Path,
    *,
    processes: int,
    ray_address: str | None,
    progress: Callable[[str], None],
) -> Results:
    """Run what `out` does not hold yet, in processes here or on a Ray cluster.

    Raises:
        ClusterError: there is no such cluster, or its nodes cannot take part.
        StudyError: `out` holds another study, or one on other data.
        DatasetError, ValidationError, CampaignEndedError: see `run_point`.
    """
    if not study.data.directory:
        raise StudyError("data.directory is missing; write it in the study or give --data-dir")
    if ray_address is not None:
        from tacitly_simulations.engines.ray_pool import connect

        connect(ray_address)
    elif study.engine is Engine.BATCHED and processes > 1:
        load_ahead()
    data = Path(study.data.directory)
    people_of = _Loader(data)
    first = people_of(next(study.points()))
    environment = environment_of(data)
    out.mkdir(parents=True, exist_ok=True)
    _same_study(out, study)
    _same_environment(out, environment, progress)
    points = list(study.points())
    if not _people_file(out).exists() and all(point.data == points[0].data for point in points):
        summary = msgspec.json.encode(summary_of(first.clients))
        _write(_people_file(out), msgspec.json.format(summary))
    todo = [point for point in points if not _row_file(out, point).exists()]
    pace = _Pace(progress, len(points), len(points) - len(todo))
    if todo:
        progress(f"{study.name}: {len(first.clients)} persons, {len(todo)} of {len(points)} points")
    for point in todo:
        people = people_of(point)
        directory = out / "points" / point.key
        if point.engine is Engine.FLOWER:
            # Its ledger and its noise know no half-finished run.
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        pace.begin(point, point.plan.cohort or point.population.clients or len(people.clients))
        row = run_point(
            point,
            people,
            directory,
            processes=processes,
            ray_address=ray_address,
            watching=pace.watching(),
        )
        _write(out / "times" / f"{point.key}.json", msgspec.json.encode(pace.took()))
        _write(_row_file(out, point), msgspec.json.format(msgspec.json.encode(row)))
        shutil.rmtree(directory)
        pace.finished(row)
    results = read_results(out)
    write_results(out, results.rows)
    from tacitly_simulations.lab.report import write_report

    write_report(out, results)
    return results


def read_results(out: Path) -> Results:
    """The finished points of the study in `out`, in the study's order.

    Raises:
        StudyError: there is none.
    """
    study, environment = read_study_of(out), read_environment(out)
    files = [_row_file(out, point) for point in study.points()]
    rows = [msgspec.json.decode(path.read_bytes(), type=Row) for path in files if path.exists()]
    return Results(
        study=study.name,
        engine=study.engine,
        environment=environment,
        points=len(files),
        people=read_summary(_people_file(out)),
        rows=rows,
    )


def read_study_of(out: Path) -> Study:
    """The study that `out` was made for.

    Raises:
        StudyError: there is none.
    """
    return _read(out, "study.json", Study)


def read_environment(out: Path) -> Environment:
    """What the study in `out` began on.

    Raises:
        StudyError: there is none.
    """
    return _read(out, "environment.json", Environment)


def _read(out: Path, name: str, kind: type[_Document]) -> _Document:
    try:
        return msgspec.json.decode((out / name).read_bytes(), type=kind)
    except OSError as error:
        raise StudyError(f"{out}: {error.strerror}; name the folder of a study") from None
    except msgspec.MsgspecError as error:
        raise StudyError(f"{out}: not a study of this version ({error})") from None


class _Loader:
    """The persons that a point asks for; the last ones are kept."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._last: tuple[object, People] | None = None

    def __call__(self, point: Point) -> People:
        data = point.data
        if self._last is None or self._last[0] != data:
            chosen = clients(
                load(data.name, self._directory),
                tokenizer(data.name, data.tokens),
                at_least_tokens=data.least_tokens or LEAST_TOKENS[data.name],
                at_least_lines=data.least_lines or 0,
                most=data.persons,
            )
            self._last = (data, People(data.name, chosen))
        return self._last[1]


@dataclass
class _Pace:
    """Says how far it is, how fast, how long still, and how much ε is spent."""

    progress: Callable[[str], None]
    points: int
    done: int
    clock: Callable[[], float] = time.monotonic
    _point: Point | None = None
    _cohort: int = 0
    _began: float = 0.0
    _clients: int = 0
    _all_clients: int = 0
    _all_seconds: float = 0.0
    _rounds: int = 0
    _released: int = 0
    _said: float = 0.0

    def begin(self, point: Point, cohort: int) -> None:
        self._point, self._cohort, self._clients = point, cohort, 0
        self._began = self._said = self.clock()
        self._rounds, self._released = point.plan.rounds, 0

    def watching(self) -> Watching:
        return Watching(self._on_round, self._on_clients)

    def took(self) -> Took:
        return Took(seconds=self.clock() - self._began, client_rounds=self._clients)

    def finished(self, row: Row) -> None:
        self.done += 1
        self._all_clients += self._clients
        self._all_seconds += self.clock() - self._began
        label = "" if self._point is None else self._point.label
        self.progress(
            f"point {self.done} of {self.points} ({label}): top-1 {row.top1:.1%}, "
            f"top-3 {row.top3:.1%}, perplexity {row.perplexity:.2f}"
        )

    def _on_clients(self, clients: int) -> None:
        """Within a round only now and then: its end says more."""
        if self.clock() - self._said >= _SECONDS_BETWEEN_WORDS:
            self._say(f"{clients} of {self._cohort} clients of a round", clients)

    def _on_round(self, receipt: Receipt, plan: CampaignPlan) -> None:
        self._clients += receipt.usable
        self._released = receipt.round
        self._rounds = plan.rounds
        private = self._point is not None and self._point.plan.epsilon != "none"
        spent = f", ε {spent_epsilon(plan, receipt.round):.2f}" if private else ""
        self._say(f"round {receipt.round} of {plan.rounds}{spent}", 0)

    def _say(self, what: str, running: int) -> None:
        self._said = self.clock()
        seconds = self._all_seconds + self._said - self._began
        trained = self._all_clients + self._clients + running
        rate = trained / seconds if seconds else 0.0
        rounds = self._rounds * (self.points - self.done) - self._released
        left = max(rounds * self._cohort - running, 0) / rate if rate else 0.0
        self.progress(
            f"point {self.done + 1} of {self.points}, {what}: "
            f"{rate:.{0 if rate >= 10 else 1}f} clients/s, {_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _row_file(out: Path, point: Point) -> Path:
    return out / "rows" / f"{point.key}.json"


def _people_file(out: Path) -> Path:
    return out / "people.json"


def _same_study(out: Path, study: Study) -> None:
    path = out / "study.json"
    document = msgspec.json.format(msgspec.json.encode(study))
    if not path.exists():
        _write(path, document)
    elif path.read_bytes() != document:
        raise StudyError(f"{out} holds another study; give this one another --out, or remove it")


def _same_environment(out: Path, environment: Environment, progress: Callable[[str], None]) -> None:
    path = out / "environment.json"
    if not path.exists():
        _write(path, msgspec.json.format(msgspec.json.encode(environment)))
        return
    before = msgspec.json.decode(path.read_bytes(), type=Environment)
    if before.data_sha256 != environment.data_sha256:
        raise StudyError(f"{out} was begun on other data; give another --out, or remove it")
    if before != environment:
        progress(
            "note: versions or code differ from when this study began; rows of both will be "
            "in one table (environment.json tells what it began with)"
        )


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, also if the machine stops."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)

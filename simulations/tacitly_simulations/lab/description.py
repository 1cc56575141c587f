"""A study as its author writes it: one TOML file, and the points it asks for.

    study = read_study(path)        # StudyError names the field and the fix
    for point in study.points(): ...

A sweep axis names a field, "plan.epsilon", and the values it takes; points are the product of all
axes and seeds. Whatever a point needs is in its `Point`, so its `key` names its result.
"""

import difflib
import hashlib
import itertools
import math
import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tacitly_client.training.baseline import PlainSettings
from tacitly_common.campaign import ServerOptimizerName
from tacitly_common.errors import TacitlyError, ValidationError
from tacitly_common.model_config import ModelConfig, adapts
from tacitly_common.validation import in_range, positive, short_name
from tacitly_simulations.datasets import DATASETS
from tacitly_simulations.engines.availability import Availability
from tacitly_simulations.engines.clipping import AdaptiveClip
from tacitly_simulations.engines.correlated_noise import normalised
from tacitly_simulations.population import Unit
from tacitly_simulations.study_settings import Start

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<place>[^`]*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `(?P<name>[^`]*)`")
_MOST_POINTS: Final = 10_000
_LARGEST_VOCABULARY: Final = 65_536
_COUNT_NOISE: Final = 1 / 20  # Andrew et al. 2021, section 3.1: σ_b = m/20


class StudyError(TacitlyError, ValueError):
    """A study's file cannot be used; the message names the field and the fix."""

    exit_code = 2


class Engine(StrEnum):
    """What runs the rounds."""

    BATCHED = "batched"
    FLOWER = "flower"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file."""


class DataPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose interaction is learned, and what a token of it is.

    `directory` is relative to the study's file. A line is what Enter ended: a chat's message.
    """

    name: str
    directory: str = ""
    persons: int | None = None
    least_tokens: int | None = None
    least_lines: int | None = None
    tokens: Unit = Unit.CHARACTERS

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            raise ValidationError(f"name must be one of {', '.join(DATASETS)}, got {self.name!r}")
        if self.persons is not None:
            in_range(2, 1_000_000, persons=self.persons)
        if self.least_tokens is not None:
            in_range(5, 1_000_000_000, least_tokens=self.least_tokens)
        if self.least_lines is not None:
            in_range(0, 1_000_000_000, least_lines=self.least_lines)


class PopulationPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many clients there are: the recorded persons, beyond them resampled ones."""

    clients: int | None = None
    online: float = 1.0
    diurnal: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.clients is not None:
            in_range(2, 1_000_000, clients=self.clients)
        self.availability()

    def availability(self) -> Availability:
        """Who is there for a round."""
        return Availability(online=self.online, diurnal=self.diurnal, dropout=self.dropout)


class ModelPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`train` names the tensors that train; all if empty. Adapters are there where it names one."""

    embedding: int = 32
    hidden: int = 128
    train: tuple[str, ...] = ()
    # As in `ModelConfig`: a study without it has the keys that it had before there was one.
    adapter_rank: int | UnsetType = UNSET
    start: Start = Start.RANDOM

    def config(self, vocabulary_size: int) -> ModelConfig:
        """The model itself."""
        return ModelConfig(
            vocabulary_size=vocabulary_size,
            embedding=self.embedding,
            hidden=self.hidden,
            trainable=self.train,
            adapter_rank=self.adapter_rank,
        )


class PlanPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The campaign. `epsilon = "none"`: no subject-level noise; `clip_norm = "none"`: no clip.

    `cohort` is everybody and `participations` one for each round, if left out. Clips by tensor, and
    at a quantile from `clip_norm` on (`clip_count_noise` is a twentieth of the cohort if left out):
    see `engines/clipping.py`. `noise_coefficients`: see `engines/correlated_noise.py`.
    """

    rounds: int = 10
    cohort: int | None = None
    participations: int | None = None
    minimum_gap_rounds: int = 0
    epsilon: float | Literal["none"] = "none"
    clip_norm: float | Literal["none"] = 1.0
    clip_by: Literal["update", "tensor"] = "update"
    clip_quantile: float | None = None
    clip_rate: float = 0.2
    clip_count_noise: float | None = None
    noise_coefficients: tuple[float, ...] = ()
    record_level: bool = False
    optimizer: str = "momentum"
    learning_rate: float = 1.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        in_range(1, 10_000, rounds=self.rounds)
        in_range(0, 10_000, minimum_gap_rounds=self.minimum_gap_rounds)
        if self.epsilon != "none":
            positive(epsilon=self.epsilon)
        if self.clip_norm != "none":
            positive(clip_norm=self.clip_norm)
        positive(learning_rate=self.learning_rate)
        in_range(0, 0.999, momentum=self.momentum)
        if self.cohort is not None:
            in_range(2, 1_000_000, cohort=self.cohort)
        if self.participations is not None:
            in_range(1, self.rounds, participations=self.participations)
        optimizers = [name.value for name in ServerOptimizerName]
        if self.optimizer not in optimizers:
            raise ValidationError(
                f"optimizer must be one of {', '.join(optimizers)}, got {self.optimizer!r:.80}"
            )
        if self.epsilon != "none" and self.clip_norm == "none":
            raise ValidationError(
                "clip_norm must be a number where epsilon is; noise is scaled to it"
            )
        if self.clip_quantile is not None:
            if self.clip_norm == "none":
                raise ValidationError("clip_quantile needs a clip_norm to start from; give one")
            if self.clip_by == "tensor":
                raise ValidationError(
                    'clip_quantile adapts the norm of whole updates; leave out clip_by = "tensor"'
                )
            self.adaptive_clip(2)
        if self.noise_coefficients:
            self._check_correlated()

    def _check_correlated(self) -> None:
        normalised(self.noise_coefficients)
        bands = len(self.noise_coefficients)
        if self.epsilon == "none":
            raise ValidationError("noise_coefficients correlate noise; give an epsilon")
        if self.clip_quantile is not None:
            raise ValidationError(
                "noise_coefficients take back noise of earlier rounds, which must have the same "
                "clip; leave out clip_quantile"
            )
        if (self.participations or self.rounds) > 1 and self.minimum_gap_rounds < bands:
            raise ValidationError(
                f"{bands} noise_coefficients need a person's rounds to lie {bands} apart: set "
                f"minimum_gap_rounds to {bands}, or participations to 1"
            )

    def adaptive_clip(self, cohort: int) -> AdaptiveClip | None:
        """For the batched engine."""
        if self.clip_quantile is None:
            return None
        noise = self.clip_count_noise
        return AdaptiveClip(
            quantile=self.clip_quantile,
            rate=self.clip_rate,
            count_noise=cohort * _COUNT_NOISE if noise is None else noise,
        )


class LocalPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client trains where the record level is off. `proximal` is FedProx's μ.

    A round uses a person's newest `max_windows`; all, if left out.
    """

    window_tokens: int = 48
    epochs: int = 1
    batch_windows: int = 16
    learning_rate: float = 0.5
    momentum: float = 0.9
    proximal: float = 0.0
    max_windows: int | None = None

    def __post_init__(self) -> None:
        in_range(2, 1_024, window_tokens=self.window_tokens)
        if self.max_windows is not None:
            in_range(1, 1_000_000, max_windows=self.max_windows)
        self.settings()

    def settings(self) -> PlainSettings:
        """For the engines."""
        return PlainSettings(
            epochs=self.epochs,
            batch_windows=self.batch_windows,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            proximal=self.proximal,
        )


class PersonalPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each person trains on alone after the rounds, and how; nothing with 0 epochs."""

    train: tuple[str, ...] = ("output.weight", "output.bias")
    epochs: int = 0
    batch_windows: int = 16
    learning_rate: float = 0.1
    momentum: float = 0.0

    def __post_init__(self) -> None:
        in_range(0, 1_000, epochs=self.epochs)
        if adapts(self.train):
            raise ValidationError(
                "train names an adapter; nothing is noised here, so name the map that it adapts"
            )
        # A wrong name is found now, not after the rounds; names do not depend on sizes.
        ModelConfig(vocabulary_size=2, trainable=self.train)
        self.settings()

    def settings(self) -> PlainSettings | None:
        """None: nobody trains on."""
        if self.epochs == 0:
            return None
        return PlainSettings(
            epochs=self.epochs,
            batch_windows=self.batch_windows,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
        )


class RecordPart(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DP-SGD inside the device, where the plan turns it on."""

    max_windows: int = 400
    sample_rate: float = 0.1
    steps: int = 20
    noise_multiplier: float = 1.0
    clip_norm: float = 0.5
    learning_rate: float = 0.2


class Point(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run: a setting and a seed. `axes` are the swept fields and their values here."""

    engine: Engine
    seed: int
    data: DataPart
    population: PopulationPart
    model: ModelPart
    plan: PlanPart
    local: LocalPart
    personal: PersonalPart
    record: RecordPart
    axes: dict[str, Any]

    def without_idle_adapters(self) -> "Point":
        """A sweep can so compare adapters with other tensors, of a model that has none."""
        if adapts(self.model.train):
            return self
        model = msgspec.structs.replace(self.model, adapter_rank=UNSET)
        return msgspec.structs.replace(self, model=model)

    @property
    def key(self) -> str:
        """Names this point's result: a hash of everything but where the data lie."""
        data = msgspec.structs.replace(self.data, directory="")
        document = msgspec.structs.replace(self, data=data)
        return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The swept values in words."""
        parts = [f"{name.partition('.')[2]} {shown(value)}" for name, value in self.axes.items()]
        return ", ".join([*parts, f"seed {self.seed}"])


class Study(Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    name: str
    data: DataPart
    engine: Engine = Engine.BATCHED
    seeds: tuple[int, ...] = (1,)
    population: PopulationPart = PopulationPart()
    model: ModelPart = ModelPart()
    plan: PlanPart = PlanPart()
    local: LocalPart = LocalPart()
    personal: PersonalPart = PersonalPart()
    record: RecordPart = RecordPart()
    sweep: dict[str, list[Any]] = {}

    def __post_init__(self) -> None:
        short_name(name=self.name)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValidationError(f"seeds must be different numbers, got {list(self.seeds)}")
        for seed in self.seeds:
            in_range(0, 2**32 - 1, seeds=seed)
        for axis, values in self.sweep.items():
            section, _, name = axis.partition(".")
            part = getattr(self, section, None)
            if not isinstance(part, Part) or name not in part.__struct_fields__:
                raise ValidationError(
                    f'sweep names {axis!r:.80}, which is no field; write "section.field", '
                    'as in "plan.epsilon"'
                )
            if not values:
                raise ValidationError(f"sweep gives {axis!r} no values; give one or more")
        count = math.prod(map(len, self.sweep.values())) * len(self.seeds)
        if count > _MOST_POINTS:
            raise ValidationError(f"sweep asks for {count} points; at most {_MOST_POINTS} will do")
        points = list(self.points())
        for point in points:
            # What is wrong with any vocabulary is found now; only a rank may be too high for one.
            point.model.config(_LARGEST_VOCABULARY)
        asked = self.model.adapter_rank is not UNSET or "model.adapter_rank" in self.sweep
        if asked and all(point.model.adapter_rank is UNSET for point in points):
            raise ValidationError(
                "model.adapter_rank is there and model.train names no adapter; name those that "
                'train, as in train = ["output.down", "output.up"], or leave it out'
            )

    def points(self) -> Iterator[Point]:
        """Every point, seeds fastest."""
        sections = ("data", "population", "model", "plan", "local", "personal", "record")
        for values in itertools.product(*self.sweep.values()):
            axes = dict(zip(self.sweep, values, strict=True))
            parts = {name: msgspec.to_builtins(getattr(self, name)) for name in sections}
            for axis, value in axes.items():
                section, _, name = axis.partition(".")
                parts[section][name] = value
            for seed in self.seeds:
                document = {"engine": self.engine, "seed": seed, "axes": axes, **parts}
                try:
                    yield msgspec.convert(document, Point).without_idle_adapters()
                except msgspec.ValidationError as error:
                    raise ValidationError(f"sweep: {_explained(error)}") from None


def read_study(path: Path) -> Study:
    """The study in a file; `data.directory` made absolute.

    Raises:
        StudyError: it cannot be read, is no TOML, or a field is wrong.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}; name an existing study") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not TOML: {error}; see docs/simulations.md") from None
    try:
        study = msgspec.convert(document, Study)
    except msgspec.ValidationError as error:
        raise StudyError(f"{path}: {_explained(error)}") from None
    directory = str(path.parent / study.data.directory) if study.data.directory else ""
    return msgspec.structs.replace(
        study, data=msgspec.structs.replace(study.data, directory=directory)
    )


def shown(value: object) -> str:
    """A swept value for people."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "all"
    return str(value)


def _explained(error: msgspec.ValidationError) -> str:
    """msgspec's message with the field first, and the nearest field where one is unknown."""
    found = _PLACE.match(str(error))
    what, place = (found["what"], found["place"]) if found else (str(error), None)
    where = place or "the study"
    unknown = _UNKNOWN.search(what)
    if unknown:
        kinds: dict[str, type[msgspec.Struct]] = {
            "data": DataPart,
            "population": PopulationPart,
            "model": ModelPart,
            "plan": PlanPart,
            "local": LocalPart,
            "personal": PersonalPart,
            "record": RecordPart,
        }
        fields = kinds.get(where, Study).__struct_fields__
        near = difflib.get_close_matches(unknown["name"], fields, n=1)
        fix = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
        return f"{where} has no field {unknown['name']!r}; {fix}"
    what = what.replace("Object missing required field", "missing field")
    return f"{where}: {what[:1].lower()}{what[1:]}"

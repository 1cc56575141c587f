"""The pictures of docs/officers.md, drawn from the accounting that the ledgers use."""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tacitly_common.accounting.odds import gaussian_mu, share_caught
from tacitly_common.accounting.planner import least_noise_multiplier
from tacitly_common.accounting.subject import cap_nano_rho, epsilon_of
from tacitly_simulations.figures import save_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DELTA: Final = 1e-6
FALSE_ALARMS_OF_100: Final = 5
_EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_SPARED, _CHANCE, _CAUGHT = "#d5dbe3", "#7f8ea3", "#c2410c"
_LINES: Final = ("#0f766e", "#1d4ed8", "#c2410c")


def plot_budget(directory: Path) -> list[Path]:
    """Write odds.svg, lifetime.svg and noise.svg into an existing directory; their paths."""
    drawn = {"odds": odds_figure(), "lifetime": lifetime_figure(), "noise": noise_figure()}
    paths = [directory / f"{name}.svg" for name in drawn]
    for path, figure in zip(paths, drawn.values(), strict=True):
        save_svg(figure, path)
    return paths


def caught_of_100(epsilon: float) -> int:
    """Of 100 persons who took part, the most found at five false alarms in 100; rounded up."""
    mu = gaussian_mu(cap_nano_rho(epsilon, DELTA))
    return ceil(100 * share_caught(FALSE_ALARMS_OF_100 / 100, mu))


def odds_figure() -> "Figure":
    """A hundred dots for each ε: those caught by chance, those that the model gives away."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 2.75))
    grids = figure.subplots(1, len(_EPSILONS))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.1, top=0.82)
    for axes, epsilon in zip(grids, _EPSILONS, strict=True):
        caught = caught_of_100(epsilon)
        colours = [_CHANCE] * FALSE_ALARMS_OF_100 + [_CAUGHT] * (caught - FALSE_ALARMS_OF_100)
        colours += [_SPARED] * (100 - caught)
        axes.scatter(
            [n % 10 for n in range(100)], [-(n // 10) for n in range(100)], s=52, c=colours
        )
        axes.set_title(f"ε = {epsilon:g}: {caught}", fontsize=11)
        axes.set(aspect="equal", xlim=(-0.8, 9.8), ylim=(-9.8, 0.8))
        axes.set_axis_off()
    figure.suptitle(
        "Of 100 people who took part, how many are caught at most if 5 of 100 who did not are "
        "wrongly accused",
        fontsize=11,
        x=0.02,
        ha="left",
    )
    figure.legend(
        handles=[
            _dot(_CHANCE, "by chance, without any model"),
            _dot(_CAUGHT, "because of the model"),
            _dot(_SPARED, "not caught"),
        ],
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    return figure


def lifetime_figure() -> "Figure":
    """ε for life against months, where each month brings a new budget and the data stay."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    months = range(1, 25)
    for epsilon, colour in zip((1.0, 2.0, 4.0), _LINES, strict=True):
        cap = cap_nano_rho(epsilon, DELTA)
        values = [epsilon_of(month * cap, DELTA) for month in months]
        axes.plot(months, values, color=colour, linewidth=2)
        axes.annotate(
            f"ε = {epsilon:g} a month",
            (24, values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
        if epsilon == 4.0:
            for month in (2, 3, 6, 12, 24):
                _mark(axes, month, values[month - 1], f"{values[month - 1]:.2f}", colour, (-6, 5))
    axes.set_xticks([1, 3, 6, 9, 12, 15, 18, 21, 24])
    _finish(
        axes,
        "A budget renewed each month, while the data stay",
        xlabel="months",
        ylabel="ε of a person's lifetime",
    )
    axes.set(xlim=(0, 24.5), ylim=(0, 30))
    return figure


def noise_figure() -> "Figure":
    """The noise that an ε needs against how often a person may take part."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    participations = range(1, 41)
    for epsilon, colour in zip((1.0, 2.0, 4.0), _LINES, strict=True):
        values = [float(least_noise_multiplier(epsilon, DELTA, k)) for k in participations]
        axes.plot(participations, values, color=colour, linewidth=2)
        axes.annotate(
            f"ε = {epsilon:g}",
            (40, values[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
        if epsilon == 4.0:
            for k in (4, 10, 20):
                _mark(axes, k, values[k - 1], f"{values[k - 1]:.3f}", colour, (16, -14))
    axes.set_xticks([1, 5, 10, 15, 20, 25, 30, 35, 40])
    _finish(
        axes,
        "The more often a person may take part, the more noise each time",
        xlabel="participations of one person, at most",
        ylabel="noise multiplier",
    )
    axes.set(xlim=(0, 41), ylim=(0, None))
    return figure


def _mark(axes: "Axes", x: int, y: float, text: str, colour: str, offset: tuple[int, int]) -> None:
    axes.plot(x, y, "o", color=colour, markersize=5)
    axes.annotate(
        text,
        (x, y),
        xytext=offset,
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=colour,
    )


def _dot(colour: str, label: str) -> object:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", color=colour, markersize=7, label=label)


def _finish(axes: "Axes", title: str, *, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)

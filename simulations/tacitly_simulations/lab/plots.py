"""The pictures of a study's report, as SVG: means over the seeds, bars for their deviation.

First use against ε with its Pareto front, then a picture for each other swept field.
"""

import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tacitly_simulations.lab.results import Mean, front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EPSILON: Final = "plan.epsilon"
# Okabe and Ito's colours, which colour-blind people can tell apart.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
_GREY: Final = "#c4c4c4"
_DASHES: Final = (0, (5, 3))
_MOST_BANDS: Final = 3  # more would hide each other
_NO_NOISE: Final = "no noise"
_ON_FRONT: Final = "on the front: none better at this ε or less"
_MANY_TIMES: Final = 8  # from here on an axis is logarithmic
_LABELS: Final = {
    "top1": "top-1, %",
    "keys_saved": "keys saved, %",
    "perplexity": "perplexity",
}

Curves = Mapping[str, Sequence[Mean]]


def plots(averaged: Sequence[Mean]) -> list[str]:
    """SVG elements, in the order of reading."""
    swept = [name for name in averaged[0].axes if len({mean.axes[name] for mean in averaged}) > 1]
    drawn = []
    if len({mean.first.epsilon for mean in averaged} - {None}) > 1:
        drawn.append(_against_epsilon(averaged))
    drawn += [_against(averaged, name) for name in swept if name != EPSILON]
    return drawn


def _against_epsilon(averaged: Sequence[Mean]) -> str:
    """Top-1 with its front, beside it keys saved (or perplexity, without keys)."""
    best = front(averaged)
    curves = _curves(averaged, EPSILON)
    # Beyond the colours there are, those that are never best stay grey.
    leading = [name for name, curve in curves.items() if any(mean in best for mean in curve)]
    colours = _coloured([*leading, *(name for name in curves if name not in leading)])
    figure, panels = _figure(2)
    for axes, measure in zip(panels, _measures(averaged), strict=True):
        for name, curve in curves.items():
            noised = [mean for mean in curve if mean.first.epsilon is not None]
            colour = colours[name]
            places = [mean.first.epsilon or math.inf for mean in noised]
            _curve(axes, places, noised, measure, colour, name)
            for mean in curve:
                if mean.first.epsilon is None:
                    _line(axes, mean, measure, colour, band=len(curves) <= _MOST_BANDS)
        epsilons = sorted({mean.first.epsilon for mean in averaged if mean.first.epsilon})
        _scale(axes, epsilons, logarithmic=True)
        axes.set_xlabel("ε of a person, over all rounds")
    if any(mean.first.epsilon is None for mean in averaged):
        panels[0].plot([], [], color="#666666", linestyle=_DASHES, linewidth=1.1, label=_NO_NOISE)
    _mark_front(panels[0], best)
    return _svg(figure, panels[0])


def _against(averaged: Sequence[Mean], axis: str) -> str:
    """The same figures against a swept field; other swept fields are curves."""
    curves = _curves(averaged, axis)
    colours = _coloured(list(curves))
    ticks = list(dict.fromkeys(mean.axes[axis] for mean in averaged))
    numbers = _numbers(ticks)
    figure, panels = _figure(2)
    for axes, measure in zip(panels, _measures(averaged), strict=True):
        for name, curve in curves.items():
            by_tick = [(numbers[ticks.index(mean.axes[axis])], mean) for mean in curve]
            by_tick.sort(key=lambda each: each[0])
            places, means = [place for place, _ in by_tick], [mean for _, mean in by_tick]
            _curve(axes, places, means, measure, colours[name], name)
            if measure == "top1" and len(curves) == 1:
                label = "worst tenth of persons"
                _curve(axes, places, means, "top1_worst_decile", _GREY, label)
        logarithmic = min(numbers) > 0 and max(numbers) >= _MANY_TIMES * min(numbers)
        _scale(axes, numbers, logarithmic=logarithmic, names=ticks)
        axes.set_xlabel(axis.replace(".", ": ").replace("_", " "))
    return _svg(figure, panels[0])


def _curves(averaged: Sequence[Mean], axis: str) -> Curves:
    """Settings that differ in `axis` alone, by what the others are."""
    curves: dict[str, list[Mean]] = defaultdict(list)
    for mean in averaged:
        others = {name: value for name, value in mean.axes.items() if name != axis}
        curves[Mean(others, mean.rows).name if others else "mean over the seeds"].append(mean)
    return curves


def _measures(averaged: Sequence[Mean]) -> tuple[str, str]:
    keys = all(mean.has("keys_saved") for mean in averaged)
    return "top1", "keys_saved" if keys else "perplexity"


def _coloured(names: Sequence[str]) -> dict[str, str]:
    return {
        name: _COLOURS[place] if place < len(_COLOURS) else _GREY
        for place, name in enumerate(names)
    }


def _numbers(ticks: Sequence[str]) -> list[float]:
    """The values of an axis where all are numbers, else their places."""
    try:
        return [float(tick) for tick in ticks]
    except ValueError:
        return [float(place) for place in range(1, len(ticks) + 1)]


def _figure(panels: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * panels, 4), layout="constrained")
    return figure, list(figure.subplots(1, panels))


def _scaled(mean: Mean, measure: str) -> tuple[float, float]:
    value, deviation = mean.of(measure)
    factor = 1 if measure == "perplexity" else 100
    return factor * value, factor * deviation


def _curve(
    axes: "Axes",
    places: Sequence[float],
    means: Sequence[Mean],
    measure: str,
    colour: str,
    name: str,
) -> None:
    values = [_scaled(mean, measure) for mean in means]
    axes.errorbar(
        places,
        [value for value, _ in values],
        yerr=[deviation for _, deviation in values],
        # A grey curve is one of many, which a legend would only hide.
        label=name if colour != _GREY or measure == "top1_worst_decile" else None,
        color=colour,
        marker="o",
        markersize=5,
        linewidth=1.6,
        elinewidth=1,
        capsize=3,
        linestyle="--" if measure == "top1_worst_decile" else "-",
        zorder=1 if colour == _GREY else 2,
    )
    if measure in _LABELS:
        axes.set_ylabel(_LABELS[measure])


def _line(axes: "Axes", mean: Mean, measure: str, colour: str, *, band: bool) -> None:
    """Without noise: no place on a scale of ε, so a line across it."""
    value, deviation = _scaled(mean, measure)
    axes.axhline(value, color=colour, linestyle=_DASHES, linewidth=1.1, zorder=1)
    if deviation and band:
        axes.axhspan(value - deviation, value + deviation, color=colour, alpha=0.08, linewidth=0)


def _mark_front(axes: "Axes", best: Sequence[Mean]) -> None:
    """Rings round the settings that nothing beats at their ε or a lower one."""
    noised = [mean for mean in best if mean.first.epsilon is not None]
    axes.plot(
        [mean.first.epsilon or math.inf for mean in noised],
        [_scaled(mean, "top1")[0] for mean in noised],
        linestyle="none",
        marker="o",
        markersize=11,
        markerfacecolor="none",
        markeredgecolor="#222222",
        markeredgewidth=1.3,
        zorder=3,
        label=_ON_FRONT,
    )


def _scale(
    axes: "Axes",
    values: Sequence[float],
    *,
    logarithmic: bool,
    names: Sequence[str] | None = None,
) -> None:
    """Ticks at what was measured, and nowhere else."""
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.minorticks_off()
    axes.set_xticks(values, [_thousands(name) for name in names or map("{:g}".format, values)])
    axes.margins(x=0.08)
    axes.grid(axis="y", color="#e4e4e4")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#888888")
    axes.tick_params(color="#888888")


def _thousands(name: str) -> str:
    return f"{int(name):,}" if name.isdecimal() else name


def _svg(figure: "Figure", axes: "Axes") -> str:
    import matplotlib as mpl

    handles, labels = axes.get_legend_handles_labels()
    # Curves first: matplotlib lists what has no bars before them.
    order = sorted(range(len(labels)), key=lambda place: labels[place] in (_NO_NOISE, _ON_FRONT))
    figure.legend(
        [handles[place] for place in order],
        [labels[place] for place in order],
        loc="outside lower center",
        ncols=min(3, len(labels)),
        frameon=False,
        fontsize="small",
    )
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "tacitly", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]

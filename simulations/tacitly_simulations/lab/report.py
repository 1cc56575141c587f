"""`report.html`: a study's table and plots in one file that needs no other."""

import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tacitly_simulations.lab.results import Mean, means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tacitly_simulations.lab.run import Results

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ results.study }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em;
       color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right }
td { white-space: nowrap } th { border-bottom: 2px solid #888 }
th:first-child, td:first-child { text-align: left }
.note { background: #fff4d6; padding: .5em 1em; border-left: 4px solid #d9a400 }
dt { font-weight: 600 } dd { margin: 0 0 .4em 0; overflow-wrap: anywhere } svg { max-width: 100% }
</style></head><body>
<h1>{{ results.study }}</h1>
<p>{{ first.data }}: {{ first.persons }} recorded persons, {{ '{:,}'.format(first.predictions) }}
held-out predictions (each person's newest fifth, never trained on). Engine: {{ results.engine }}.
{% if people %}A person has {{ '{:,}'.format(people.tokens_least) }} to
{{ '{:,}'.format(people.tokens_most) }} tokens, the median is
{{ '{:,}'.format(people.tokens_median) }}; what they type differs from everybody's by
{{ '%.3f' % people.divergence }} bits (mean Jensen-Shannon divergence).
{% endif %}{{ means[0].rows | length }} seed(s); ± is the standard deviation over them.</p>
{% if resampled %}<p class="note">Some rows simulate more clients than persons were recorded. Those
beyond the persons are resampled from them: more clients, not more people.</p>{% endif %}
{% for plot in plots %}<figure>{{ plot }}</figure>
{% endfor %}<table><thead><tr>
<th>setting</th><th>ε</th><th>δ</th><th>z</th><th>noise / clip</th><th>clients</th><th>cohort</th>
<th>top-1</th><th>top-3</th><th>perplexity</th><th>worst tenth top-1</th>
{% if personal %}<th>personal top-1</th>{% endif %}</tr></thead><tbody>
{% for mean in means %}{% set row = mean.first %}<tr>
<td>{{ label(mean) }}</td>
<td>{{ '%g' % row.epsilon if row.epsilon is not none else '–' }}</td>
<td>{{ '%g' % row.delta if row.epsilon is not none else '–' }}</td>
<td>{{ '%.3f' % row.noise_multiplier if row.epsilon is not none else '–' }}</td>
<td>{{ '%.2f' % row.noise_to_clip if row.epsilon is not none else '–' }}</td>
<td>{{ '{:,}'.format(row.clients) }}{{ '*' if row.resampled }}</td>
<td>{{ '{:,}'.format(row.cohort) }}</td>
<td>{{ percent(mean, 'top1') }}</td><td>{{ percent(mean, 'top3') }}</td>
<td>{{ '%.2f' % mean.of('perplexity')[0] }} ± {{ '%.2f' % mean.of('perplexity')[1] }}</td>
<td>{{ percent(mean, 'top1_worst_decile') }}</td>
{% if personal %}<td>{{ percent(mean, 'top1_personal') if row.top1_personal is not none else '–' }}
</td>{% endif %}</tr>
{% endfor %}{% for predictor in (people.predictors if people else []) %}<tr>
<td>counts of everybody's tokens: {{ predictor.method }}</td>
<td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td>
<td>{{ '%.1f' % (100 * predictor.top1) }} %</td><td>{{ '%.1f' % (100 * predictor.top3) }} %</td>
<td>{{ '%.2f' % predictor.perplexity }}</td><td>–</td>{% if personal %}<td>–</td>{% endif %}</tr>
{% endfor %}</tbody></table>
<p>ε is at the level of a whole person, over all rounds, at the δ beside it; noise / clip is the
norm of the noise on a mean update in clip norms. {% if resampled %}* resampled.{% endif %}</p>
<h2>Environment</h2><dl>
<dt>Python</dt><dd>{{ environment.python }}, {{ environment.machine }}</dd>
<dt>Packages</dt><dd>{% for name, version in environment.packages.items() %}{{ name }}
{{ version }}{{ ', ' if not loop.last }}{% endfor %}</dd>
<dt>SHA-256 of the data</dt><dd>{{ environment.data_sha256 }}</dd>
<dt>Commit</dt><dd>{{ environment.commit or 'unknown' }}</dd></dl>
</body></html>
"""


def write_report(out: Path, results: "Results") -> Path:
    """Write the report of these results to `out`."""
    from jinja2 import Environment as Templates
    from jinja2 import StrictUndefined

    averaged = means(results.rows)
    templates = Templates(autoescape=True, undefined=StrictUndefined)
    from markupsafe import Markup

    page = templates.from_string(_PAGE).render(
        results=results,
        environment=results.environment,
        people=results.people,
        first=results.rows[0],
        means=averaged,
        # The SVG is matplotlib's own.
        plots=[Markup(plot) for plot in _plots(averaged)],  # noqa: S704
        label=_label,
        percent=_percent,
        personal=any(row.top1_personal is not None for row in results.rows),
        resampled=any(row.resampled for row in results.rows),
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _label(mean: Mean) -> str:
    named = [f"{name.partition('.')[2]} {value}" for name, value in mean.axes.items()]
    return ", ".join(named) or "the one setting"


def _percent(mean: Mean, figure: str) -> str:
    value, deviation = mean.of(figure)
    return f"{100 * value:.1f} ± {100 * deviation:.1f} %"


def _plots(averaged: Sequence[Mean]) -> list[str]:
    """Top-1 and perplexity against each axis of more than one value; other axes are curves."""
    names = list(averaged[0].axes)
    return [
        _plot(averaged, name) for name in names if len({mean.axes[name] for mean in averaged}) > 1
    ]


def _plot(averaged: Sequence[Mean], axis: str) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    curves: dict[str, list[Mean]] = defaultdict(list)
    for mean in averaged:
        others = {name: value for name, value in mean.axes.items() if name != axis}
        curves[_label(Mean(others, mean.rows)) if others else "top-1"].append(mean)
    ticks = list(dict.fromkeys(mean.axes[axis] for mean in averaged))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, perplexity = figure.subplots(1, 2)
    for name, of_curve in curves.items():
        places = [ticks.index(mean.axes[axis]) for mean in of_curve]
        line = _curve(accuracy, places, of_curve, "top1", 100, name)
        _curve(
            accuracy,
            places,
            of_curve,
            "top1_worst_decile",
            100,
            "worst tenth of persons" if len(curves) == 1 else None,
            color=line,
            linestyle="--",
        )
        _curve(perplexity, places, of_curve, "perplexity", 1, name, color=line)
    for axes, label in ((accuracy, "top-1, %"), (perplexity, "perplexity")):
        axes.set(xlabel=axis, ylabel=label)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.grid(alpha=0.3)
    accuracy.legend(fontsize="small")
    if len(curves) > 1:
        accuracy.set_title("dashed: the worst tenth of persons", fontsize="small")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "tacitly", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawn = buffer.getvalue()
    return drawn[drawn.index("<svg") :]


def _curve(
    axes: "Axes",
    places: Sequence[int],
    curve: Sequence[Mean],
    figure: str,
    factor: float,
    label: str | None,
    *,
    color: str | None = None,
    linestyle: str = "-",
) -> str:
    """Means with their deviations as bars; the colour they have."""
    from matplotlib.colors import to_hex

    values = [mean.of(figure) for mean in curve]
    drawn = axes.errorbar(
        places,
        [factor * value for value, _ in values],
        yerr=[factor * deviation for _, deviation in values],
        label=label,
        marker="o",
        capsize=3,
        color=color,
        linestyle=linestyle,
    )
    return to_hex(drawn.lines[0].get_color())

"""`report.html`: a study's table and plots in one file that needs no other."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tacitly_simulations.lab.plots import plots
from tacitly_simulations.lab.results import front, further_shares, means

if TYPE_CHECKING:
    from tacitly_simulations.lab.run import Results

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ results.study }}</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 88em; margin: 2em auto; padding: 0 1em;
       color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right }
td { white-space: nowrap } th { border-bottom: 2px solid #888 }
tr.front td { background: #eef5fb } th:first-child, td:first-child { text-align: left }
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
<th>top-1</th><th>top-3</th><th>perplexity</th>
{% for title, _ in more %}<th>{{ title }}</th>{% endfor %}</tr></thead><tbody>
{% for mean in means %}{% set row = mean.first %}<tr{% if mean in front %} class="front"{% endif %}>
<td>{{ '● ' if mean in front }}{{ mean.name }}</td>
<td>{{ '%g' % row.epsilon if row.epsilon is not none else '–' }}</td>
<td>{{ '%g' % row.delta if row.epsilon is not none else '–' }}</td>
<td>{{ '%.3f' % row.noise_multiplier if row.epsilon is not none else '–' }}</td>
<td>{{ '%.2f' % row.noise_to_clip if row.epsilon is not none else '–' }}</td>
<td>{{ '{:,}'.format(row.clients) }}{{ '*' if row.resampled }}</td>
<td>{{ '{:,}'.format(row.cohort) }}</td>
<td>{{ mean.percent('top1') }}</td><td>{{ mean.percent('top3') }}</td>
<td>{{ '%.2f' % mean.of('perplexity')[0] }}
{%- if mean.rows | length > 1 %} ± {{ '%.2f' % mean.of('perplexity')[1] }}{% endif %}</td>
{% for _, figure in more %}<td>{{ mean.percent(figure) }}</td>{% endfor %}</tr>
{% endfor %}{% for predictor in (people.predictors if people else []) %}<tr>
<td>counts of everybody's tokens: {{ predictor.method }}</td>
<td>–</td><td>–</td><td>–</td><td>–</td><td>–</td><td>–</td>
<td>{{ '%.1f' % (100 * predictor.top1) }} %</td><td>{{ '%.1f' % (100 * predictor.top3) }} %</td>
<td>{{ '%.2f' % predictor.perplexity }}</td>{% for _ in more %}<td>–</td>{% endfor %}</tr>
{% endfor %}</tbody></table>
<p>● on the Pareto front: no setting with this ε or a lower one has a higher mean top-1.
{% if more | length > 1 %}Keys saved: by three suggested words before each key, as devices count
them; click: the next click's button and cell of a 3 x 3 grid, guessed right. {% endif %}</p>
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
        plots=[Markup(plot) for plot in plots(averaged)],  # noqa: S704
        front=front(averaged),
        more=further_shares(averaged),
        resampled=any(row.resampled for row in results.rows),
    )
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path

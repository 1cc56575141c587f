"""The picture of docs/results.md: several studies' top-1 against ε, beside what counts predict.

python -m tacitly_simulations.plot_studies out/studies/NAME... --out docs/epsilon.svg
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tacitly_simulations.lab.results import Mean

_COLUMNS: Final = 2
_COUNTS: Final = ("bigram", "trigram")
_WITHOUT_NOISE: Final = (0, (5, 3))


@click.command()
@click.argument(
    "studies",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False))
def main(studies: tuple[Path, ...], out: Path) -> None:
    """Draw the finished studies in the folders STUDIES, swept over plan.epsilon, into one SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from tacitly_simulations.lab.people_summary import read_summary
    from tacitly_simulations.lab.results import means, read_table

    rows = -(-len(studies) // _COLUMNS)
    figure = Figure(figsize=(9, 3.2 * rows + 0.3), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for panel, folder in zip(panels, studies, strict=False):
        averaged = means(read_table(folder / "results.parquet"))
        _draw(panel, averaged)
        name = folder.name.removesuffix("-epsilon")
        panel.set_title(f"{name}, {averaged[0].first.persons} persons", fontsize=10)
        people = read_summary(folder / "people.json")
        for predictor in people.predictors if people else ():
            if predictor.method in _COUNTS:
                panel.axhline(100 * predictor.top1, color="#999999", linestyle=":", linewidth=1)
                panel.annotate(
                    predictor.method,
                    (0.01, 100 * predictor.top1),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    color="#777777",
                    va="bottom",
                )
    for panel in panels[len(studies) :]:
        panel.set_axis_off()
    # One for all, below: within a panel it hides a curve.
    handles, labels = panels[0].get_legend_handles_labels()
    without_noise = Line2D([], [], color="#555555", linestyle=_WITHOUT_NOISE, linewidth=1)
    figure.legend(
        [*handles, without_noise],
        [*labels, "the same without noise"],
        loc="outside lower center",
        ncols=len(labels) + 1,
        frameon=False,
        fontsize=8,
    )
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "tacitly"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    out.write_text("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")


def _draw(panel: "Axes", averaged: "list[Mean]") -> None:
    noised = [mean for mean in averaged if mean.first.epsilon is not None]
    places = [mean.first.epsilon or 0.0 for mean in noised]
    for name, measure, colour in (
        ("all persons' predictions", "top1", "#0072B2"),
        ("worst tenth of persons", "top1_worst_decile", "#D55E00"),
    ):
        values = [mean.of(measure) for mean in noised]
        panel.errorbar(
            places,
            [100 * value for value, _ in values],
            yerr=[100 * deviation for _, deviation in values],
            color=colour,
            marker="o",
            markersize=4,
            capsize=3,
            label=name,
        )
        for mean in averaged:
            if mean.first.epsilon is None:
                value = 100 * mean.of(measure)[0]
                panel.axhline(value, color=colour, linestyle=_WITHOUT_NOISE, linewidth=1)
    panel.set_xscale("log")
    panel.set_xticks(places, [f"{epsilon:g}" for epsilon in places])
    panel.minorticks_off()
    panel.set(xlabel="ε of a person, over all rounds", ylabel="top-1, %")
    panel.grid(alpha=0.3)


if __name__ == "__main__":
    main()

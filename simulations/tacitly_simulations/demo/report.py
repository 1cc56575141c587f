"""The demo's one-page report: what was learned, what it cost, what left each machine.

A single HTML file that loads nothing: the plots are inline SVG.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tacitly_common.campaign import CampaignPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Round:
    """One released round as the progress line shows it. `epsilon` is the most any person spent."""

    number: int
    cohort: int
    top1: float
    top3: float
    perplexity: float
    epsilon: float
    bytes_up: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that left one machine, in one phase of a round."""

    round: int
    phase: str
    code: str
    size_bytes: int
    sha256: str

    @property
    def holds_update(self) -> bool:
        """Whether a masked update is in it."""
        return self.code == "ok" and self.phase == "upload"


@dataclass(frozen=True, slots=True)
class Machine:
    """What one agent kept and what it sent."""

    name: str
    events_stored: int
    sent: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page.

    `baselines` are (name, top-1) lines drawn across the learning curve. `epsilon_server` is what
    the server learns at most from the sums, `epsilon_one_device` whoever broke the masks;
    `protective_cohort` the people a round needs for the same noise on the mean at
    `protective_epsilon`.
    """

    data_label: str
    plan: CampaignPlan
    epsilon_allowed: float
    epsilon_server: float
    epsilon_one_device: float
    epsilon_record_level: float
    protective_epsilon: float
    protective_cohort: int
    rounds: tuple[Round, ...]
    baselines: tuple[tuple[str, float], ...]
    machines: tuple[Machine, ...]


def write_report(path: Path, report: Report) -> None:
    """Render and write the page."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("tacitly_simulations.demo", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        report=report,
        plan=report.plan,
        learning_curve=_learning_curve(report),
        budget_curve=_budget_curve(report),
    )
    path.write_text(page, encoding="utf-8")


def _learning_curve(report: Report) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    numbers = [item.number for item in report.rounds]
    for label, values, style in (
        ("top-3", [100 * item.top3 for item in report.rounds], "o--"),
        ("top-1", [100 * item.top1 for item in report.rounds], "o-"),
    ):
        axes.plot(numbers, values, style, label=label, markersize=4)
    for index, (name, top1) in enumerate(report.baselines):
        axes.axhline(100 * top1, color="0.45", linewidth=1, linestyle=(0, (1 + 2 * index, 2)))
        axes.annotate(
            f"{name} (top-1)", (0, 100 * top1), xytext=(2, 3), textcoords="offset points",
            fontsize=8, color="0.35",
        )  # fmt: skip
    axes.set(xlabel="round", ylabel="held-out events guessed right (%)")
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="center right")
    return _svg(figure)


def _budget_curve(report: Report) -> str:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 2.2), layout="constrained")
    axes = figure.subplots()
    numbers = [item.number for item in report.rounds]
    axes.step(numbers, [item.epsilon for item in report.rounds], where="post")
    axes.axhline(report.epsilon_allowed, color="tab:red", linewidth=1)
    axes.annotate(
        "allowed", (numbers[0], report.epsilon_allowed), xytext=(2, -11),
        textcoords="offset points", fontsize=8, color="tab:red",
    )  # fmt: skip
    axes.set(xlabel="round", ylabel="ε spent", ylim=(0, report.epsilon_allowed * 1.1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def _svg(figure: "Figure") -> str:
    """The figure as an SVG element, without the XML prologue."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

"""One picture of a study: what-if cohorts against accuracy."""

from pathlib import Path

import msgspec

from tacitly_common.errors import ValidationError
from tacitly_simulations.figures import save_svg
from tacitly_simulations.study import Report


def plot_cohorts(report_path: Path, out: Path) -> None:
    """Top-1 of the private rows of `tacitly-sim run --format json` against the cohort, as SVG.

    Raises:
        ValidationError: no report, or one with fewer than two private rows.
    """
    try:
        report = msgspec.json.decode(report_path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise ValidationError(f"{report_path}: {error}; give what `run` printed") from error
    # A report lists its private rows and their calibrations in one order.
    private = [row for row in report.rows if row.epsilon is not None]
    if len(private) < 2:
        raise ValidationError(f"{report_path} has {len(private)} private rows; run two or more")

    from matplotlib.figure import Figure

    curves: dict[float, list[tuple[int, float]]] = {}
    for row, calibration in zip(private, report.calibrations, strict=True):
        curves.setdefault(calibration.epsilon, []).append((calibration.cohort, 100 * row.top1))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for epsilon, points in sorted(curves.items()):
        cohorts, top1 = zip(*sorted(points), strict=True)
        axes.plot(cohorts, top1, marker="o", label=f"ε = {epsilon:g}")
    axes.set(xscale="log", xlabel="persons (what-if)", ylabel="top-1, %", title=report.title)
    axes.grid(alpha=0.3)
    axes.legend()
    save_svg(figure, out)

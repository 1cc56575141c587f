"""How every picture in docs/ is made: the same input gives the same file."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_svg(figure: "Figure", out: Path) -> None:
    """Write `figure` without a date or random identifiers; text stays text."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "tacitly", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})

"""Styles and saves figures: colours, fonts, file formats. Knows no experiment."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from labqueue.domain.text import printable
from labqueue.report.statistics.pairing import text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
"""Okabe and Ito's palette, told apart by colour-blind readers, without its yellow (invisible on paper)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#B5B5B5"
INK = "#222222"

WIDE_FONTS = (
    *(f"Noto Sans CJK {region}" for region in ("SC", "JP", "TC", "HK", "KR")),
    *("Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("IPAexGothic", "NanumGothic"),
    *("PingFang SC", "Hiragino Sans GB", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic"),
)
"""Fonts for letters that DejaVu lacks, used where the machine has one: of Linux, of macOS, of Windows."""

LOOK: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Names and values are shown as they are; a dollar sign in one must not start a formula.
    "text.parse_math": False,
    "svg.hashsalt": "labqueue",
}


@dataclass(frozen=True)
class Plot:
    """One figure, in both formats. ``verdict`` is the id of the prediction that it shows, if any."""

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes
    section: str
    verdict: str | None = None
    metrics: tuple[str, ...] = ()
    """The metrics that it shows."""


def slug(name: str) -> str:
    """A file name from any name: letters, digits, dot and dash; at most 60 characters."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:60] or "_"


@contextmanager
def look() -> Iterator[None]:
    """The lab's style, for figures made and saved inside."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in WIDE_FONTS if name in here)]
    with matplotlib.rc_context({**LOOK, "font.family": families}):
        yield


def short(value: Any, limit: int = 18) -> str:
    """A parameter value as it stands on a tick or in a legend: three digits, or its shortened text."""
    return f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else text(value, limit)


def note(axes: Axes, words: str) -> None:
    """A few words above the left end of the axes, smaller than a title."""
    axes.set_title(words, fontsize=8.5, loc="left", color="#666666")


def plain_ticks(axis: Any) -> None:
    """Log ticks as plain numbers: their default labels are formulas, which we do not parse."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure) -> tuple[bytes, bytes]:
    """Returns (SVG, PNG at 150 dpi), the same bytes for the same figure."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure)
    png, svg = BytesIO(), BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # XML has no control characters, and a name from a run or an import may hold some.
        for written in figure.findobj(Text):
            written.set_text(printable(written.get_text()))
        figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    figure.set_layout_engine("none")  # the layout found for the PNG holds; finding it again doubles the time
    # Outlines look the same everywhere; letters that our font lacks (Chinese, say) are left to the reader's browser.
    kind = "none" if any("missing from" in str(warning.message) for warning in caught) else "path"
    with matplotlib.rc_context({"svg.fonttype": kind}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return svg.getvalue(), png.getvalue()


def shades(count: int) -> list[Any]:
    """Colours for an ordered axis: viridis without its pale end."""
    import matplotlib

    ramp = matplotlib.colormaps["viridis"]
    return [ramp(0.9 * i / max(count - 1, 1)) for i in range(count)]


def place(axes: Axes, values: Sequence[Any], positions: Sequence[float], *, log: bool, labels: Sequence[str]) -> None:
    """Puts an axis' own values on its ticks where they fit, on a log scale where the axis is log-like."""
    if log:
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
    longest = max((len(name) for name in labels), default=0)
    if len(values) <= 10:
        axes.set_xticks(list(positions), list(labels))
        axes.minorticks_off()
        if longest * len(values) > 40:
            axes.tick_params(axis="x", rotation=30)
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
                tick.set_rotation_mode("anchor")

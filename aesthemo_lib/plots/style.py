"""One style for every figure: the colours of the tasks, fonts, and how figures are saved and shown."""

import io
import warnings
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from ..files import atomic
from ..tasks import MORE_COLOURS, TASK_COLOURS, task_colour as task_colour

NEUTRAL = "#6B6B6B"  #: What belongs to no task: reference lines, notes, shared parts


def use_style() -> None:
    """The project's look, for this process: large enough to be projected, no frame, a light grid to read values at."""
    mpl.rcParams.update({
        "figure.dpi": 110, "savefig.dpi": 130, "figure.constrained_layout.use": True, "font.size": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
        "axes.grid": True, "axes.axisbelow": True, "grid.color": "#E6E6E6", "legend.frameon": False,
        "axes.prop_cycle": mpl.cycler(color=[*TASK_COLOURS.values(), *MORE_COLOURS]),
    })


def png(figure: Figure, metadata: dict[str, str] | None = None) -> bytes:
    """A figure as a PNG's bytes, with ``metadata`` and its smallest type size in points; equal figures, equal bytes."""
    file, sizes = io.BytesIO(), [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()]
    metadata = {"Software": "aesthemo", "Type": str(min(sizes, default=99.0)), **(metadata or {})}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # boxes stand for what the font lacks
        figure.savefig(file, format="png", bbox_inches="tight", metadata=metadata)
    return file.getvalue()


def save(figure: Figure, path: Path | str, metadata: dict[str, str] | None = None) -> None:
    """Write a figure as a PNG, whole or not at all (see ``png``)."""
    data = png(figure, metadata)
    with atomic(Path(path)) as temporary:
        temporary.write_bytes(data)


def show(figure: Figure, caption: str) -> None:
    """Put a figure into a notebook: the caption says what to see, below it and as its alternative text."""
    import matplotlib.pyplot as plt
    from IPython.display import Image, Markdown, display

    display(Image(png(figure), alt=caption), Markdown(f"*{caption}*"))
    plt.close(figure)  # or the inline backend would draw it a second time

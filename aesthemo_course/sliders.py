"""A figure to move by hand: it is redrawn when a slider moves, and shows its first state without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure


def by_hand(draw: Callable[..., tuple[Figure, str]], **values: Sequence) -> None:
    """Show a figure with one slider for each argument of the function that draws it.

    Args:
        draw: from one value of each slider to a figure and its caption.
        values: each slider's values, in order; it starts at the first.
    """
    from IPython.display import display
    from ipywidgets import HTML, Image, SelectionSlider, VBox

    from aesthemo_lib import plots

    first = {name: options[0] for name, options in values.items()}
    figure, caption = draw(**first)
    plots.show(figure, caption)
    sliders = {name: SelectionSlider(options=list(options), description=name.replace("_", " "),
                                     continuous_update=False) for name, options in values.items()}
    picture, text = Image(format="png", layout={"max_width": "100%"}), HTML()

    def moved(_=None) -> None:
        figure, text.value = draw(**{name: slider.value for name, slider in sliders.items()})
        picture.value = plots.png(figure)

    for slider in sliders.values():
        slider.observe(moved, "value")
    view = VBox([*sliders.values(), picture, text])._repr_mimebundle_()
    view = view[0] if isinstance(view, tuple) else view
    what = " and ".join(name.replace("_", " ") for name in values)
    display(view | {"text/html": f"<p>With a kernel, sliders here move {what}.</p>",
                    "text/plain": f"sliders: {what}"}, raw=True)

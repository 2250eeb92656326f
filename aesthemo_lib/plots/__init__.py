"""Figures of data, networks, attributions and runs, in one style."""

from .attribution import flow_bars, ledger_bars, signed_maps
from .data import contact_sheet, label_table, photo_grid, vote_bars
from .network import network_diagram
from .style import MORE_COLOURS, NEUTRAL, TASK_COLOURS, png, save, show, task_colour, use_style

__all__ = [
    "MORE_COLOURS", "NEUTRAL", "TASK_COLOURS", "contact_sheet", "flow_bars", "label_table", "ledger_bars",
    "network_diagram", "photo_grid", "png", "save", "show", "signed_maps", "task_colour", "use_style", "vote_bars",
]

"""What each branch borrows: streams between branches, maps of them, and ledgers that add up exactly."""

from .baselines import BASELINES, baseline
from .cuts import CUTS, cut
from .ledger import Ledger, layer_ledger, trunk_ledger
from .maps import STREAM_MAPS, SignedMap, integrated_gradients, patch_numbers, stream_map, top_channels
from .streams import Stream, hook_point, record, replaced, streams

__all__ = [
    "BASELINES", "CUTS", "STREAM_MAPS", "Ledger", "SignedMap", "Stream", "baseline", "cut",
    "hook_point", "integrated_gradients", "layer_ledger", "patch_numbers", "record", "replaced", "stream_map",
    "streams", "top_channels", "trunk_ledger",
]

"""What each branch borrows: streams between branches, maps of them, and ledgers that add up exactly."""

from .baselines import BASELINES, baseline
from .cuts import CUTS, cut, cut_table
from .ledger import Ledger, layer_ledger, over_set, shapley, trunk_ledger
from .maps import STREAM_MAPS, SignedMap, channel_means, integrated_gradients, patch_numbers, stream_map, top_channels
from .streams import Stream, hook_point, record, replaced, streams

__all__ = [
    "BASELINES", "CUTS", "STREAM_MAPS", "Ledger", "SignedMap", "Stream", "baseline",
    "channel_means", "cut", "cut_table", "hook_point", "integrated_gradients", "layer_ledger", "over_set",
    "patch_numbers", "record", "replaced", "shapley", "stream_map", "streams", "top_channels", "trunk_ledger",
]

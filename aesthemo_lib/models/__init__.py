"""Backbones, the cross-branch layer, and the networks built from them."""

"""Drawn scenes whose labels have known causes."""

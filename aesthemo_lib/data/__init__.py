"""Votes in, batches out."""

"""The loss, the training loop and the run folder."""

"""Notebooks run by papermill without a screen, several side by side."""

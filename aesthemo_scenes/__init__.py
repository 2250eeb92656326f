"""Draws scenes whose labels have known causes: their factors, raters and pictures; with numpy, pandas and Pillow."""

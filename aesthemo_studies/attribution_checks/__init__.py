"""The checks of ledgers and maps behind lesson 8."""

"""Measurements, honest by construction: same data, interleaved runs, medians and spreads, restored bytes compared."""

"""Regime labels: every method behind one interface, chosen walk-forward on purged data."""

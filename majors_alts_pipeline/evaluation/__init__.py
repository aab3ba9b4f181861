"""Evaluation: performance, its uncertainty, and tests of the regime edge."""

"""Report: one self-contained HTML page with its tables beside it, and the live decision as JSON."""

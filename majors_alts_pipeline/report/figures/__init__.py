"""Plotly figures of the report: frames in, `Chart` out; one file per subject, `style` for what they share."""

"""Who could be held on a day, and why not: point-in-time rules and data-driven detectors."""

"""Read-only lake: contracts, reader, identifiers and units, panel, quality rules, market simulator."""

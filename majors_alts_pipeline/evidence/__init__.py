"""The evidence: how likely a result is luck, what it depends on, and every configuration that was ever tried."""

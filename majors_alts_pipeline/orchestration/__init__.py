"""Dagster around the chain: storage, assets, checks, schedules. Nothing below imports it."""

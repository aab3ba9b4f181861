"""Typed settings: the default YAML merged with the user's, validated; unknown keys are errors."""

from majors_alts_pipeline.config.settings import ConfigError, Settings, load_settings

__all__ = ["ConfigError", "Settings", "load_settings"]

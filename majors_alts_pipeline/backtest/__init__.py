"""Backtest: the book traded as one continuous account per strategy and baseline."""

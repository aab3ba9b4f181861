"""One line of evidence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """A claim, what was measured, and whether the measurement supports the claim.

    Attributes:
        machine: name of the truth machine.
        claim: what must be true, in words.
        measured: the measurement with its unit.
        required: the bound it is held against.
        holds: whether it is met.
    """

    machine: str
    claim: str
    measured: str
    required: str
    holds: bool

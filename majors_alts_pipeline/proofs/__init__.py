"""Truth machines: code that shows whether the numbers can be believed, on simulated lakes and on the user's own.

``prefix``, ``replay`` and ``ledger`` test a given lake; ``null`` and ``planted`` simulate markets whose truth is
known. Each returns `Proof` rows, which `majors-alts prove` prints as one table.
"""

from majors_alts_pipeline.proofs.proof import Proof

__all__ = ["Proof"]

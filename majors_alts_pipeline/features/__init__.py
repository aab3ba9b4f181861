"""Market-wide regime features: definitions with their signed hypotheses, and the stage that computes them."""

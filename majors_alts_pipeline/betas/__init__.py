"""Stage 4: rolling two-factor betas of every asset to BTC and ETH."""

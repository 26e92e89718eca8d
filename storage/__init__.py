"""Query -> Entry, and Entry -> kept: the tiers an answer lives in, and the servers behind them."""

"""Which replica is asked."""

"""Replicas that are processes of their own, to be killed, replaced and made to misbehave; and clients in crowds."""

"""Kept answers, shown whole and proved: asked again with the recorded parameters, and compared."""

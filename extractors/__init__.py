"""Long text in, grounded records out: what a model said about each part of a text, and where in it that stands.

It asks nobody and keeps nothing: the gateway does both.
"""

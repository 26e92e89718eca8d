"""`askonce bench --differential`: a seed in, a real gateway against a model that answers with a hash, and out whether
every answer was the model's own.

Nothing here uses the gateway's own way of naming requests: what is the same question is said three times over, by the
labels of the changes a request was made with, by `meaning.py`, and by the gateway. All three must agree.
"""

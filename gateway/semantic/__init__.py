"""Whether the answer to one prompt may be given to another one that means nearly the same."""

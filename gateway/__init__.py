"""One request, from bytes to bytes: name it, look, ask once, keep, answer."""

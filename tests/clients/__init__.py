"""Official clients in other languages, as programs that the tests run."""

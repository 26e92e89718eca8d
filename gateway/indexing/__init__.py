"""What is kept -> vectors of it, made in the background."""

"""Tools for models whose chat template does not show them: told in the prompt, and calls read from what is said."""

"""Equal questions at the same time are one flight: one call to the backend, heard by everybody who asked."""

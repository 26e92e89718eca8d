"""Who asks the backend, and what it says, between processes: a lease and a stream in Redis for each flight."""

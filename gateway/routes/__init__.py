"""HTTP in, HTTP out: thin handlers around the pipeline."""

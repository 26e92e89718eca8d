"""Everything that can be killed while answers are on their way, and what the stores hold afterwards."""

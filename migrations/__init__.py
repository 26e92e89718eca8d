"""What shapes the database: numbered steps, forward only, and views that are applied again each time."""

"""What is kept of other questions that mean the same: found, judged, given, or only written down."""

"""`askonce recipes`: saved recipes shown, begun, and tried on their own examples through a running gateway."""

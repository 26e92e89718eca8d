"""`askonce verify`: kept answers asked again through a running gateway, and what came of it on the terminal."""

"""`askonce bench`: a machine comes in, figures go out, each with the command that prints it again."""

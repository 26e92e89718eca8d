"""`askonce semantic`: what semantic reuse would have given, judged by people and told in figures."""

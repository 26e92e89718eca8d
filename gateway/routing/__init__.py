"""A model's name in, and who may answer for it: pools of replicas, their health, and who comes next when they fail."""

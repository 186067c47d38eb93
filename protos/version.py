"""The version of the board service; never anything else."""

# Bumped when a host and an agent of different numbers would misunderstand each other.
SERVICE_VERSION = 2

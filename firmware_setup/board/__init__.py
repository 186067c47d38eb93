"""The part of provisioning that runs on the board."""

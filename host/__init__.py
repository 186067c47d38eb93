"""The workstation side: from a trained network to a measured, compressed program."""

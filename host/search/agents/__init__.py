"""Learning agents over vectors; they know neither networks nor boards."""

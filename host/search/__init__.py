"""Strategies: propose policies, learn from evaluations; no board, no compiler, no store."""

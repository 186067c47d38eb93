"""HiReLC (arXiv 2606.26002): budgets by block, and ensembles of agents that spend them."""

"""How much each layer minds each kind of compression, before any search; never trains."""

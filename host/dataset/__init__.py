"""Hardware datasets: programs are drawn, measured on boards, and kept as tables."""

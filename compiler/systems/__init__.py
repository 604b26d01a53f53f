"""Networks as dynamical systems: from `state`, `connect` and `dynamics` lines to one loop of the graph."""

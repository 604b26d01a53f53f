"""Learning rules of systems: phases in which states settle, free or nudged towards what the loss asks for."""

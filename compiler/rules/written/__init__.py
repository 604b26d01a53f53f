"""Learning rules written as equations: from the text of a rule to directions for a network's parameters."""

"""nnspec: a declarative language and compiler for neural-network research."""

__version__ = "0.1.0"

"""Torch functions that operations bring along: emitted code holds those that it calls, as they stand here."""

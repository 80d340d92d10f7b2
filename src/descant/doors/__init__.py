"""Doors for other programs: what asks a loaded model over a network."""

"""Subgenres from lyrics, captions and sound: labels and tracks, training, scores, plain systems to compare with."""

"""Listens to music and talks about it: captions, answers to questions, honest scores."""

__version__ = "0.1.0"

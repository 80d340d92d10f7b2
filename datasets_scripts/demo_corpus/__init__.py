"""The parts of the demo corpus generator, run by make_demo_corpus.py."""

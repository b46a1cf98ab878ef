"""Mutated inputs over every reader: each is read, or refused with one message. `python -m tests.fuzz --help`."""

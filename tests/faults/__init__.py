"""Commands killed at any moment, and run again. `python -m tests.faults --help`."""

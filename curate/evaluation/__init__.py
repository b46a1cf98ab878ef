"""Whether training helped: models answer suites of prompts, judges read the answers, statistics say what is noise."""

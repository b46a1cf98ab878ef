"""The embedded default: a seeded generator of synthetic safety pairs."""

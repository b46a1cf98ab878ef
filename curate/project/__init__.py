"""A project: its parameters, presets and pipeline, and what the package carries for them."""

"""Ground: errors, files, shards of a store, progress, the machine. Knows no pair and no model."""

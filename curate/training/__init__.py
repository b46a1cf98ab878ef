"""Training arms: one trainer, one loss; an arm says which pairs and which weights."""

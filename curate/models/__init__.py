"""Which model, its chat template in token ids, its weights in memory, and the small one trained from scratch."""

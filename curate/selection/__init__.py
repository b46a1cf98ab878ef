"""Which pairs, and how hard to push each side: subsets and weights, as polars expressions."""

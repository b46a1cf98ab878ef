"""log p(y|x) and log p(y|null) of both responses of every pair, and the mutual information they give."""

"""Pure loss functions of log-probabilities, one file each; they import nothing of ours."""

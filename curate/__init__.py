"""Score safety-preference pairs by mutual information, split and weigh them, train B-DPO on the result."""

__version__ = "0.1.0"

"""Matrix products with gradients where a model trains: on a CPU by the faster library, in shares, keeping less."""

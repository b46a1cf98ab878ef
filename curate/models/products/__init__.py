"""Matrix products and what lies between them, with gradients where a model trains: on a CPU faster, keeping less."""

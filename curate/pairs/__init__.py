"""From raw preference data to pairs, and how a file of pairs is read."""

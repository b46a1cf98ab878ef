"""Sequences through a transformers model without padding: packs, their attention, the LM head."""

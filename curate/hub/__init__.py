"""The Hugging Face Hub: a weighted dataset with its card, pushed as one commit, and loaded back checked."""

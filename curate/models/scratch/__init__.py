"""The embedded default model: a tokenizer and a small Qwen2, from scratch, on text that holds no held-out prompt."""

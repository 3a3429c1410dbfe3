"""Text to ids and back, for every family whose checkpoint brings a tokenizer and a template."""

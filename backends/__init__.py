"""Chat models, wherever they run: known models, their weights, servers and clients.

Knows nothing of ratings, pages or the database. Only ``backends.server`` imports torch.
"""

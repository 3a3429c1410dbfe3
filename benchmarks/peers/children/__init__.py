"""What runs in the contenders' processes, each with the Python that has its packages.

Imports nothing from the rest of the app but in Twopane's own contenders.
"""

"""The command line: `settings` are one object, each command has a function.

`app.py` puts the commands together and has `serve`. Imports neither Gradio nor torch.
"""

"""The engine side by side with llama.cpp and chatglm.cpp, built here from their published sources.

Not part of the app, and not of its tests: a full run takes hours.
"""

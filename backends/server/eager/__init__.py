"""Forward passes as torch computes them, one operation at a time: exact precisions, any CPU.

``native`` is its fast counterpart.
"""

"""The measure page, and the parts that it alone has."""

from ui.measure.page import PATH, build

__all__ = ["PATH", "build"]

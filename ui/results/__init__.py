"""The results page, and the parts that it alone has."""

from ui.results.page import PATH, build

__all__ = ["PATH", "build"]

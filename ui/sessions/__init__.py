"""The sessions page: rating sessions, prompt sets and answer packs, for the operator."""

from ui.sessions.page import PATH, build

__all__ = ["PATH", "build"]

"""Files that the page gives away: as data in an event, which its script has the browser save.

A file on the server would need a route that knows who may read it.
"""

import base64

SAVE = """made => {
    const [name, file] = JSON.parse(made);
    const link = document.createElement("a");
    link.href = file;
    link.download = name;
    link.click();
}"""
"""What the browser does with what `as_data` made."""


def as_data(name: str, media_type: str, content: bytes) -> list[str]:
    """Return a file's name and an address that has all of it."""
    return [name, f"data:{media_type};base64,{base64.b64encode(content).decode()}"]

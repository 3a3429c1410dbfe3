"""What the charts of all pages share: colours, shapes, grid, type, on light and dark alike."""

import plotly.graph_objects as go

COLOURS = ("#d97706", "#0d9488", "#6366f1", "#be185d")
"""First, second and further models: told apart also by those who can't see red or green, and by
shape."""

SHAPES = ("circle", "diamond", "square", "triangle-up")
GREY = "#64748b"
GRID = {"gridcolor": "rgba(100,116,139,.25)", "zeroline": False}


def dressed(figure: go.Figure, title: str, *, height: int = 360) -> go.Figure:
    """Return the figure with the looks of all charts, its title on top, its legend below."""
    return figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0, "xref": "paper", "y": 0.98},
        height=height,
        margin={"l": 10, "r": 10, "t": 45, "b": 10},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13, "family": "system-ui, Noto Sans CJK SC, sans-serif"},
        legend={"orientation": "h", "y": -0.18, "x": 0},
        hovermode="closest",
        modebar={"remove": ["lasso2d", "select2d"]},
    )

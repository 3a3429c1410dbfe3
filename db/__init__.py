"""What is kept: raters, trials, turns, answers, ratings and scores, in SQLite or PostgreSQL.

Knows no Gradio, no models and nothing of the rating domain above it. Only this package speaks SQL.
"""

from db.engine import Database
from db.errors import DatabaseError
from db.tables import (
    Answer,
    Base,
    Dimension,
    FinishReason,
    Language,
    Preference,
    Rater,
    Rating,
    Score,
    Side,
    Trial,
    TrialState,
    Turn,
    new_id,
    utc_now,
)

__all__ = [
    "Answer",
    "Base",
    "Database",
    "DatabaseError",
    "Dimension",
    "FinishReason",
    "Language",
    "Preference",
    "Rater",
    "Rating",
    "Score",
    "Side",
    "Trial",
    "TrialState",
    "Turn",
    "new_id",
    "utc_now",
]

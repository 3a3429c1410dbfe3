"""What is kept in SQLite or PostgreSQL: raters and their trials, measurements, cached answers.

Knows no Gradio, no models and nothing of the rating domain above it. Only this package speaks SQL.
"""

from db.cache_tables import CachedAnswer
from db.engine import Database
from db.errors import DatabaseError
from db.measurement_tables import MeasuredAnswer, MeasuredModel, Measurement, MeasurementState
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
    "CachedAnswer",
    "Database",
    "DatabaseError",
    "Dimension",
    "FinishReason",
    "Language",
    "MeasuredAnswer",
    "MeasuredModel",
    "Measurement",
    "MeasurementState",
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

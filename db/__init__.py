"""What is kept in SQLite or PostgreSQL: raters, trials, sessions, measurements, cached answers.

Knows no Gradio, no models and nothing of the rating domain above it. Only this package speaks SQL.
"""

from db.cache_tables import CachedAnswer
from db.engine import Database
from db.errors import DatabaseError
from db.measurement_tables import MeasuredAnswer, MeasuredModel, Measurement, MeasurementState
from db.session_tables import (
    AnswerPack,
    Assignment,
    PackedAnswer,
    PromptSet,
    RatingSession,
    ResultsRule,
    SessionState,
    TrialKind,
)
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
    public_name,
    utc_now,
)

__all__ = [
    "Answer",
    "AnswerPack",
    "Assignment",
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
    "PackedAnswer",
    "Preference",
    "PromptSet",
    "Rater",
    "Rating",
    "RatingSession",
    "ResultsRule",
    "Score",
    "SessionState",
    "Side",
    "Trial",
    "TrialKind",
    "TrialState",
    "Turn",
    "new_id",
    "public_name",
    "utc_now",
]

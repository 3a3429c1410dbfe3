"""First tables: raters, trials, turns, answers, ratings, scores."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SIDES = "side IN ('left', 'right')"
LANGUAGES = "language IN ('zh', 'en')"


def upgrade() -> None:
    op.create_table(
        "raters",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("side_seed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_raters")),
        sa.CheckConstraint(LANGUAGES, name=op.f("ck_raters_language")),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("rater_id", sa.String(32), nullable=False),
        sa.Column("pair", sa.String(401), nullable=False),
        sa.Column("left_model", sa.String(200), nullable=False),
        sa.Column("right_model", sa.String(200), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("language", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("draft", sa.JSON(), nullable=True),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("revealed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
            name=op.f("fk_trials_rater_id_raters"),
            ondelete="RESTRICT",
        ),
        sa.CheckConstraint(LANGUAGES, name=op.f("ck_trials_language")),
        sa.CheckConstraint(
            "state IN ('drafting', 'answering', 'rateable', 'rated', 'revealed', 'abandoned')",
            name=op.f("ck_trials_state"),
        ),
    )
    op.create_index(
        op.f("ix_trials_rater_id_state_created_at"), "trials", ["rater_id", "state", "created_at"]
    )
    op.create_index(op.f("ix_trials_pair_state"), "trials", ["pair", "state"])
    op.create_table(
        "turns",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_id", sa.String(200), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_turns")),
        sa.ForeignKeyConstraint(
            ["trial_id"], ["trials.id"], name=op.f("fk_turns_trial_id_trials"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint("trial_id", "position", name=op.f("uq_turns_trial_id_position")),
        sa.CheckConstraint("position >= 1", name=op.f("ck_turns_position")),
    )
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("turn_id", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raw_text", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.String(16), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("model_key", sa.String(200), nullable=False),
        sa.Column("model_revision", sa.String(200), nullable=False),
        sa.Column("precision", sa.String(32), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("first_token_s", sa.Double(), nullable=True),
        sa.Column("total_s", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answers")),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name=op.f("fk_answers_turn_id_turns"), ondelete="RESTRICT"
        ),
        sa.UniqueConstraint(
            "turn_id", "side", "attempt", name=op.f("uq_answers_turn_id_side_attempt")
        ),
        sa.CheckConstraint(SIDES, name=op.f("ck_answers_side")),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_answers_attempt")),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length', 'stopped', 'failed')",
            name=op.f("ck_answers_finish_reason"),
        ),
        sa.CheckConstraint("prompt_tokens >= 0", name=op.f("ck_answers_prompt_tokens")),
        sa.CheckConstraint("completion_tokens >= 0", name=op.f("ck_answers_completion_tokens")),
        sa.CheckConstraint("first_token_s >= 0", name=op.f("ck_answers_first_token_s")),
        sa.CheckConstraint("total_s >= 0", name=op.f("ck_answers_total_s")),
        sa.CheckConstraint(
            "(finish_reason IS NULL) = (finished_at IS NULL)", name=op.f("ck_answers_finished")
        ),
    )
    op.create_table(
        "ratings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("trial_id", sa.String(32), nullable=False),
        sa.Column("rater_id", sa.String(32), nullable=False),
        sa.Column("preference", sa.String(16), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("rated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ratings")),
        sa.ForeignKeyConstraint(
            ["trial_id"],
            ["trials.id"],
            name=op.f("fk_ratings_trial_id_trials"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["rater_id"],
            ["raters.id"],
            name=op.f("fk_ratings_rater_id_raters"),
            ondelete="RESTRICT",
        ),
        sa.UniqueConstraint("trial_id", name=op.f("uq_ratings_trial_id")),
        sa.CheckConstraint(
            "preference IN ('left', 'right', 'tie', 'both_bad')",
            name=op.f("ck_ratings_preference"),
        ),
    )
    op.create_index(op.f("ix_ratings_rater_id"), "ratings", ["rater_id"])
    op.create_table(
        "scores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("rating_id", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(16), nullable=False),
        sa.Column("dimension", sa.String(16), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scores")),
        sa.ForeignKeyConstraint(
            ["rating_id"],
            ["ratings.id"],
            name=op.f("fk_scores_rating_id_ratings"),
            ondelete="RESTRICT",
        ),
        sa.UniqueConstraint(
            "rating_id", "side", "dimension", name=op.f("uq_scores_rating_id_side_dimension")
        ),
        sa.CheckConstraint(SIDES, name=op.f("ck_scores_side")),
        sa.CheckConstraint(
            "dimension IN ('understanding', 'coherence', 'memory', 'naturalness', 'reasoning')",
            name=op.f("ck_scores_dimension"),
        ),
        sa.CheckConstraint("score IN (1, 2, 3, 4, 5)", name=op.f("ck_scores_score")),
    )


def downgrade() -> None:
    raise NotImplementedError("going back would delete every rating; restore a backup instead")

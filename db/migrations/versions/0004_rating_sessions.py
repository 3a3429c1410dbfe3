"""Rating sessions with their prompt sets, answer packs and assignments; pseudonyms and guesses."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def _one_of(table: str, column: str, values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values.split())
    return sa.CheckConstraint(f"{column} IN ({listed})", name=op.f(f"ck_{table}_{column}"))


def _foreign(table: str, column: str, target: str, key: str = "id") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{target}.{key}"], name=op.f(f"fk_{table}_{column}_{target}"),
        ondelete="RESTRICT",
    )


def upgrade() -> None:
    op.create_table(
        "prompt_sets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prompts", sa.JSON(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompt_sets")),
    )
    op.create_table(
        "answer_packs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("prompt_set_id", sa.String(64), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_answer_packs")),
        _foreign("answer_packs", "prompt_set_id", "prompt_sets"),
    )
    op.create_table(
        "packed_answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pack_id", sa.String(64), nullable=False),
        sa.Column("prompt_id", sa.String(200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("model_key", sa.String(200), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("pieces", sa.JSON(), nullable=False),
        sa.Column("finish_reason", sa.String(16), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("first_token_s", sa.Double(), nullable=False),
        sa.Column("total_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_packed_answers")),
        _foreign("packed_answers", "pack_id", "answer_packs"),
        sa.UniqueConstraint(
            "pack_id", "prompt_id", "position", "model_key", name="uq_packed_answers_once"
        ),
        _one_of("packed_answers", "finish_reason", "stop length stopped failed"),
        sa.CheckConstraint("position >= 1", name=op.f("ck_packed_answers_position")),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length')", name=op.f("ck_packed_answers_whole")
        ),
        sa.CheckConstraint("first_token_s >= 0", name=op.f("ck_packed_answers_first_token_s")),
        sa.CheckConstraint("total_s >= 0", name=op.f("ck_packed_answers_total_s")),
    )
    op.create_table(
        "rating_sessions",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("prompt_set_id", sa.String(64), nullable=False),
        sa.Column("pack_id", sa.String(64), nullable=True),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("raters_per_prompt", sa.Integer(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("results", sa.String(16), nullable=False),
        sa.Column("repeat_share", sa.Double(), nullable=False),
        sa.Column("attention_share", sa.Double(), nullable=False),
        sa.Column("asks_guess", sa.Boolean(), nullable=False),
        sa.Column("at_once", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("closed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rating_sessions")),
        _foreign("rating_sessions", "prompt_set_id", "prompt_sets"),
        _foreign("rating_sessions", "pack_id", "answer_packs"),
        _one_of("rating_sessions", "state", "open paused closed"),
        _one_of("rating_sessions", "results", "never own_done closed always"),
        sa.CheckConstraint(
            "raters_per_prompt >= 1", name=op.f("ck_rating_sessions_raters_per_prompt")
        ),
        sa.CheckConstraint(
            "repeat_share >= 0 AND repeat_share <= 1",
            name=op.f("ck_rating_sessions_repeat_share"),
        ),
        sa.CheckConstraint(
            "attention_share >= 0 AND attention_share <= 1",
            name=op.f("ck_rating_sessions_attention_share"),
        ),
        sa.CheckConstraint(
            "(state = 'closed') = (closed_at IS NOT NULL)", name=op.f("ck_rating_sessions_closed")
        ),
    )
    op.create_table(
        "assignments",
        sa.Column("trial_id", sa.String(32), nullable=False),
        sa.Column("session_id", sa.String(32), nullable=True),
        sa.Column("prompt_id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("repeat_of", sa.String(32), nullable=True),
        sa.Column("better", sa.String(8), nullable=True),
        sa.PrimaryKeyConstraint("trial_id", name=op.f("pk_assignments")),
        _foreign("assignments", "trial_id", "trials"),
        _foreign("assignments", "session_id", "rating_sessions"),
        _foreign("assignments", "repeat_of", "trials"),
        _one_of("assignments", "kind", "regular repeat attention"),
        sa.CheckConstraint(
            "(kind = 'repeat') = (repeat_of IS NOT NULL)", name=op.f("ck_assignments_repeat_of")
        ),
        sa.CheckConstraint(
            "(kind = 'attention') = (better IS NOT NULL)", name=op.f("ck_assignments_better")
        ),
        sa.CheckConstraint("better IN ('left', 'right')", name=op.f("ck_assignments_side")),
    )
    op.create_index(
        op.f("ix_assignments_session_id_prompt_id"), "assignments", ["session_id", "prompt_id"]
    )
    with op.batch_alter_table("ratings") as ratings:
        ratings.add_column(sa.Column("guess", sa.String(16), nullable=True))
        ratings.create_check_constraint(op.f("ck_ratings_guess"), "guess IN ('left', 'right')")
    with op.batch_alter_table("raters") as raters:
        raters.add_column(sa.Column("pseudonym", sa.String(64), nullable=True))
        raters.create_unique_constraint(op.f("uq_raters_pseudonym"), ["pseudonym"])


def downgrade() -> None:
    raise NotImplementedError("going back would lose who was asked what; restore a backup")

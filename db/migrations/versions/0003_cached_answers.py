"""The answer cache, and a mark on each answer that was taken from it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "cached_answers",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("pieces", sa.JSON(), nullable=False),
        sa.Column("finish_reason", sa.String(16), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("first_token_s", sa.Double(), nullable=False),
        sa.Column("total_s", sa.Double(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("recorded_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_cached_answers")),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length', 'stopped', 'failed')",
            name=op.f("ck_cached_answers_finish_reason"),
        ),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length')", name=op.f("ck_cached_answers_whole")
        ),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_cached_answers_size_bytes")),
        sa.CheckConstraint("hits >= 0", name=op.f("ck_cached_answers_hits")),
        sa.CheckConstraint("prompt_tokens >= 0", name=op.f("ck_cached_answers_prompt_tokens")),
        sa.CheckConstraint(
            "completion_tokens >= 0", name=op.f("ck_cached_answers_completion_tokens")
        ),
        sa.CheckConstraint("first_token_s >= 0", name=op.f("ck_cached_answers_first_token_s")),
        sa.CheckConstraint("total_s >= 0", name=op.f("ck_cached_answers_total_s")),
    )
    # With a default in the schema, so that SQLite needn't make the table anew.
    op.add_column(
        "answers", sa.Column("cached", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    raise NotImplementedError("going back would forget which answers were cached; restore a backup")

"""What was measured: measurements, the models in them, their timed answers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("machine", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'stopped', 'failed')", name=op.f("ck_measurements_state")
        ),
        sa.CheckConstraint(
            "(state = 'running') = (finished_at IS NULL)", name=op.f("ck_measurements_finished")
        ),
    )
    op.create_index(op.f("ix_measurements_started_at"), "measurements", ["started_at"])
    op.create_table(
        "measured_models",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("measurement_id", sa.String(32), nullable=False),
        sa.Column("model_key", sa.String(200), nullable=False),
        sa.Column("together", sa.Boolean(), nullable=False),
        sa.Column("remote", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.String(200), nullable=False),
        sa.Column("precision", sa.String(32), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("cold_start_s", sa.Double(), nullable=True),
        sa.Column("warm_start_s", sa.Double(), nullable=True),
        sa.Column("cpu_share", sa.Double(), nullable=True),
        sa.Column("disk_free_bytes", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measured_models")),
        sa.ForeignKeyConstraint(
            ["measurement_id"],
            ["measurements.id"],
            name=op.f("fk_measured_models_measurement_id_measurements"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "measurement_id",
            "model_key",
            "together",
            name=op.f("uq_measured_models_measurement_id_model_key_together"),
        ),
        sa.CheckConstraint("peak_bytes >= 0", name=op.f("ck_measured_models_peak_bytes")),
        sa.CheckConstraint("cold_start_s >= 0", name=op.f("ck_measured_models_cold_start_s")),
        sa.CheckConstraint("warm_start_s >= 0", name=op.f("ck_measured_models_warm_start_s")),
        sa.CheckConstraint("cpu_share >= 0", name=op.f("ck_measured_models_cpu_share")),
    )
    op.create_table(
        "measured_answers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("measurement_id", sa.String(32), nullable=False),
        sa.Column("model_key", sa.String(200), nullable=False),
        sa.Column("together", sa.Boolean(), nullable=False),
        sa.Column("prompt", sa.Integer(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("first_token_s", sa.Double(), nullable=True),
        sa.Column("total_s", sa.Double(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measured_answers")),
        sa.ForeignKeyConstraint(
            ["measurement_id"],
            ["measurements.id"],
            name=op.f("fk_measured_answers_measurement_id_measurements"),
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint(
            "measurement_id",
            "model_key",
            "together",
            "prompt",
            "repeat",
            name=op.f("uq_measured_answers_once"),
        ),
        sa.CheckConstraint("prompt >= 1", name=op.f("ck_measured_answers_prompt")),
        sa.CheckConstraint("repeat >= 1", name=op.f("ck_measured_answers_repeat")),
        sa.CheckConstraint("first_token_s >= 0", name=op.f("ck_measured_answers_first_token_s")),
        sa.CheckConstraint("total_s >= 0", name=op.f("ck_measured_answers_total_s")),
    )


def downgrade() -> None:
    raise NotImplementedError("going back would delete what was measured; restore a backup instead")

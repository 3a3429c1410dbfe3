"""What other programs took of the cores while a model was measured."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("measured_models") as models:
        models.add_column(sa.Column("others_share", sa.Double(), nullable=True))
        models.create_check_constraint(
            op.f("ck_measured_models_others_share"), "others_share >= 0"
        )


def downgrade() -> None:
    raise NotImplementedError("going back would lose how busy the machine was; restore a backup")

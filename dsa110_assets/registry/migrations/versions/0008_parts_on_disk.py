"""The parts of products that are on disk, and indexes of old rows, so that cleaning asks the registry for what is old.

Products of earlier releases get rows too; the size of a tile's planes is estimated from the size of all nine.

Revision 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_FILL = """
INSERT INTO stored_parts (product, key, rule, path, size_bytes, made_at)
SELECT product, key, rule, path, coalesce(size_bytes * share, 0)::bigint, created_at
FROM (
    SELECT DISTINCT ON (product, key) product, key, path, size_bytes, created_at FROM product_versions ORDER BY product, key, version_id DESC
) newest JOIN (VALUES
    ('measurement_set', 'measurement_sets', 1.0), ('calibrated_ms', 'calibrated_sets', 1.0),
    ('tile_image', 'working_planes', 4 / 9.0), ('tile_image', 'mosaic_planes', 3 / 9.0), ('tile_image', 'tile_maps', 2 / 9.0),
    ('hourly_mosaic', 'mosaic_maps', 0.75), ('hourly_mosaic', 'hourly_images', 0.25),
    ('nightly_mosaic', 'mosaic_maps', 0.75), ('nightly_mosaic', 'nightly_images', 0.25), ('custom_mosaic', 'custom_mosaics', 1.0),
    ('variability_metrics', 'night_reports', 1.0), ('ese_candidates', 'night_reports', 1.0), ('injection_recovery', 'night_reports', 1.0)
) AS parts(product, rule, share) USING (product)
WHERE path IS NOT NULL
"""

_SUPERSEDE = """
UPDATE product_versions SET superseded_at = later.at FROM (
    SELECT version_id, lead(created_at) OVER (PARTITION BY product, key ORDER BY version_id) AS at FROM product_versions
) later WHERE later.version_id = product_versions.version_id AND later.at IS NOT NULL
"""


def upgrade() -> None:
    """Make the table and fill it from the current versions."""
    op.create_table(
        "stored_parts",
        sa.Column("product", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.Column("problem", sa.Text()),
        sa.PrimaryKeyConstraint("product", "key", "rule", name="pk_stored_parts"),
    )
    op.execute(_FILL)
    op.create_index(
        "ix_stored_parts_on_disk",
        "stored_parts",
        ["rule", "made_at"],
        postgresql_include=["size_bytes"],
        postgresql_where="retired_at IS NULL AND problem IS NULL",
    )
    op.create_index("ix_stored_parts_problems", "stored_parts", ["rule", "made_at"], postgresql_where="problem IS NOT NULL")
    op.add_column("product_versions", sa.Column("superseded_at", sa.DateTime(timezone=True)))
    op.execute(_SUPERSEDE)
    op.create_index(
        "ix_product_versions_superseded_at", "product_versions", ["superseded_at"], postgresql_where="superseded_at IS NOT NULL"
    )
    op.create_index(
        "ix_product_versions_inputs", "product_versions", ["inputs"], postgresql_using="gin", postgresql_ops={"inputs": "jsonb_path_ops"}
    )
    op.create_index("ix_subband_files_gone", "subband_files", ["judged_at"], postgresql_where="state = 'gone'")
    op.create_index("ix_qa_metrics_measured_at", "qa_metrics", ["measured_at"])


def downgrade() -> None:
    """Drop it; what was removed is then reported as missing."""
    op.drop_index("ix_qa_metrics_measured_at", "qa_metrics")
    op.drop_index("ix_subband_files_gone", "subband_files")
    op.drop_index("ix_product_versions_inputs", "product_versions")
    op.drop_index("ix_product_versions_superseded_at", "product_versions")
    op.drop_column("product_versions", "superseded_at")
    op.drop_table("stored_parts")

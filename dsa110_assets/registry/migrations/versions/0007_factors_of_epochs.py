"""Factors of epochs in a table; `light_curves` becomes a view that divides the fluxes by them.

Revision 0007.

The factors of existing light curves are kept: the view shows the same fluxes as the table did.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_VIEW = """
CREATE VIEW light_curves AS
SELECT source_id, mosaic_name, time_mjd, flux_jy / scale AS flux_jy,
    noise_scale * sqrt(flux_err_jy ^ 2 + (flux_jy / scale * factor_err) ^ 2) / scale AS flux_err_jy,
    factor AS normalisation, factor_err AS normalisation_err, is_limit
FROM (
    SELECT p.source_id, p.mosaic_name, p.time_mjd, p.flux_jy, p.flux_err_jy, p.is_limit, e.factor, e.factor_err, e.noise_scale,
        e.factor * coalesce(r.ratio, 1) AS scale
    FROM photometry p
    JOIN epoch_factors e ON e.mosaic_name = p.mosaic_name AND e.usable
    LEFT JOIN reference_factors r ON r.source_id = p.source_id AND r.mosaic_name = p.mosaic_name
    WHERE p.flux_err_jy > 0 AND NOT EXISTS (SELECT FROM excluded_epochs x WHERE x.mosaic_name = p.mosaic_name)
) divided
WHERE scale > 0
"""

_COLUMNS = "source_id, mosaic_name, time_mjd, flux_jy, flux_err_jy, normalisation, normalisation_err, is_limit"


def upgrade() -> None:
    """Make the tables, take the factors over from the light curves, and replace their table by the view."""
    op.create_table(
        "epoch_factors",
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("n_measured", sa.Integer(), nullable=False),
        sa.Column("factor", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("factor_err", sa.DOUBLE_PRECISION(), nullable=True),
        sa.Column("n_reference", sa.Integer(), server_default="0", nullable=False),
        sa.Column("usable", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("noise_scale", sa.DOUBLE_PRECISION(), server_default="1", nullable=False),
        sa.Column("settled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("mosaic_name", name=op.f("pk_epoch_factors")),
    )
    op.create_index("ix_epoch_factors_time_mjd", "epoch_factors", ["time_mjd"])
    op.create_index("ix_epoch_factors_unsettled", "epoch_factors", ["time_mjd"], postgresql_where="NOT settled")
    op.create_table(
        "reference_factors",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("ratio", sa.DOUBLE_PRECISION(), nullable=True),
        sa.PrimaryKeyConstraint("source_id", "mosaic_name", name=op.f("pk_reference_factors")),
    )
    op.create_index("ix_reference_factors_mosaic_name", "reference_factors", ["mosaic_name"])
    op.execute(
        "INSERT INTO epoch_factors (mosaic_name, time_mjd, n_measured) SELECT p.mosaic_name, min(p.time_mjd), count(*) "
        "FROM photometry p JOIN mosaics m ON m.name = p.mosaic_name AND m.kind = 'hourly' GROUP BY p.mosaic_name"
    )
    op.execute(
        "CREATE TEMPORARY TABLE point ON COMMIT DROP AS SELECT l.source_id, l.mosaic_name, l.normalisation, l.normalisation_err, "
        "p.flux_jy / l.flux_jy AS scale, p.flux_jy / l.flux_jy / l.normalisation - 1 AS beyond, "
        "l.flux_err_jy * (p.flux_jy / l.flux_jy) / sqrt(p.flux_err_jy ^ 2 + (l.flux_jy * l.normalisation_err) ^ 2) AS noise_scale "
        "FROM light_curves l JOIN photometry p USING (source_id, mosaic_name) WHERE l.flux_jy <> 0 AND p.flux_jy <> 0"
    )
    op.execute(
        "INSERT INTO reference_factors SELECT source_id, mosaic_name, 1 + beyond FROM point WHERE abs(beyond) > 1e-12 AND abs(beyond) < 0.5"
    )
    op.execute(
        "UPDATE epoch_factors e SET factor = f.factor, factor_err = f.error, noise_scale = f.noise_scale, usable = true, "
        "n_reference = (SELECT count(*) FROM reference_factors r WHERE r.mosaic_name = e.mosaic_name), updated_at = now() "
        "FROM (SELECT mosaic_name, min(normalisation) AS factor, min(normalisation_err) AS error, "
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY noise_scale) AS noise_scale FROM point GROUP BY mosaic_name) f "
        "WHERE f.mosaic_name = e.mosaic_name"
    )
    op.drop_table("light_curves")
    op.execute(_VIEW)


def downgrade() -> None:
    """Write what the view shows into the table of before."""
    op.execute(f"CREATE TABLE written_light_curves AS SELECT {_COLUMNS} FROM light_curves")  # noqa: S608 - constants of this module
    op.execute("DROP VIEW light_curves")
    op.create_table(
        "light_curves",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("mosaic_name", sa.Text(), nullable=False),
        sa.Column("time_mjd", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("flux_err_jy", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("normalisation", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("normalisation_err", sa.DOUBLE_PRECISION(), nullable=False),
        sa.Column("is_limit", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "mosaic_name", name=op.f("pk_light_curves")),
    )
    op.execute(f"INSERT INTO light_curves ({_COLUMNS}) SELECT {_COLUMNS} FROM written_light_curves")  # noqa: S608 - constants of this module
    op.drop_table("written_light_curves")
    op.drop_table("reference_factors")
    op.drop_table("epoch_factors")

"""Operations: alerts, disk space, housekeeping, backfills, stale products, quality of tiles."""

"""Care of the platform: alerts, disk, housekeeping, backfills, what is out of date."""

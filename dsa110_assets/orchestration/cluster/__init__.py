"""Runs on several machines: the launcher that asks for them, the workers that make them, the broker that wakes workers.

PostgreSQL holds the queue of runs (`registry.queries.workers`). A message of the broker means only "something waits",
so lost, late and doubled messages do no harm. Nothing else of the platform imports this package, and one machine needs
neither Celery nor Redis.
"""

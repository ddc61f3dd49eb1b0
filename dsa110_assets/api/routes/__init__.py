"""The addresses of the API, by subject. A route calls a query or a stage, and shapes the answer."""

from dsa110_assets.api.routes import (
    attention,
    candidates,
    control,
    epochs,
    live,
    mosaics,
    operations,
    positions,
    products,
    science,
    shift,
    targets,
    tasks,
)

ROUTERS = (
    operations.router,
    products.router,
    mosaics.router,
    positions.router,
    science.router,
    epochs.router,
    targets.router,
    tasks.router,
    control.router,
    candidates.router,
    attention.router,
    live.router,
    shift.router,
)

"""The addresses of the API, by subject. A route calls a query or a stage, and shapes the answer."""

from dsa110_assets.api.routes import (
    antennas,
    attention,
    candidates,
    control,
    epochs,
    live,
    marks,
    mosaics,
    operations,
    positions,
    products,
    science,
    shift,
    targets,
    tasks,
    timeline,
)

ROUTERS = (
    operations.router,
    products.router,
    timeline.router,
    marks.router,
    antennas.router,
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

"""The pages over the API's small registry."""

from dsa110_assets_tests.api.conftest import served

__all__ = ["served"]

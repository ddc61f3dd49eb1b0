"""A page that has no answer while the database restarts comes back by itself."""

from __future__ import annotations

import pytest

from dsa110_assets.api.access import Access
from dsa110_assets.errors import RegistryError
from dsa110_assets_tests.browser.accessibility import violations


def test_a_page_asks_again_until_there_is_an_answer(visit, site) -> None:
    def away(_: Access) -> None:
        raise RegistryError("registry", "cannot be used", "check it with `dsa110 db status`")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Access, "session", away)
        page = visit("/ui/marks")
        assert "This page asks again every 5 s" in page.inner_text("main")
        assert violations(page) == []
        page.wait_for_timeout(6000)
        assert page.get_by_role("heading", name="RegistryError").is_visible(), "there is no answer yet"
    page.get_by_role("heading", name="Marks", exact=True).wait_for(timeout=30_000)
    site.errors[:] = [one for one in site.errors if "503" not in one]

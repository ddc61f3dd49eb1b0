"""All pages: nothing from elsewhere, no script inside a page, readable errors, sign-in, files that are what npm has."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text

from dsa110_assets.api.pages import layout
from dsa110_assets.errors import QuestionTooSlowError
from dsa110_assets_tests.api.conftest import Served

VENDOR = layout.STATIC / "vendor"


def test_each_vendored_file_is_the_one_of_the_lock() -> None:
    lock = json.loads((VENDOR / "lock.json").read_text())
    assert sorted(lock) == sorted(path.name for path in VENDOR.iterdir() if path.is_dir())
    for folder, facts in lock.items():
        assert folder == f"{facts['package']}-{facts['version']}"
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (VENDOR / folder).iterdir()}
        assert found == facts["sha256"], folder
        assert any(name.startswith(("LICENSE", "COPYING")) for name in found), f"{folder} has no license"


def test_no_template_has_a_script_or_a_handler_inside_or_takes_anything_from_elsewhere() -> None:
    for path in layout.TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path.name
        assert not re.search(r"\son[a-z]+\s*=", text), path.name
        assert not re.search(r"(src|href)=[\"']https?:", text), path.name
        assert "|safe" not in text.replace(" ", ""), path.name


@pytest.mark.parametrize("entry", layout.PAGES, ids=lambda entry: entry.address)
def test_each_page_of_the_navigation_answers_with_its_policy(served: Served, entry: layout.Entry) -> None:
    answer = served.get(entry.address)
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe-eval" not in answer.headers["Content-Security-Policy"].replace("wasm-unsafe-eval", "")
    assert f'href="{entry.address}" data-key="{entry.key}" aria-current="page"' in answer.text


def test_files_of_pages_are_kept_by_browsers_because_their_address_has_their_digest(served: Served) -> None:
    answer = served.get(f"{layout.STATIC_URL}/style.css")
    assert "immutable" in answer.headers["Cache-Control"]
    assert layout.STATIC_URL in served.get("/ui/dashboard").text


def test_an_error_of_a_page_is_a_page_with_the_next_step(served: Served) -> None:
    answer = served.client.get("/ui/no-such-page")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "Next:" in answer.text


def test_the_start_address_leads_to_the_dashboard(served: Served) -> None:
    assert served.get("/").url.path == "/ui/dashboard"


def test_a_wrong_token_does_not_sign_in_and_a_right_one_does(served: Served) -> None:
    token = served.headers["Authorization"].removeprefix("Bearer ")
    wrong = served.client.post("/ui/sign-in", data={"token": "dsa110_wrong", "to": "/ui/dashboard"})
    assert wrong.status_code == 401
    assert "dsa110_token" not in served.client.cookies
    right = served.client.post("/ui/sign-in", data={"token": token, "to": "https://elsewhere.example/"}, follow_redirects=False)
    assert right.headers["location"] == "/ui/dashboard", "an address of another site is not followed"
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "J. Doe" in served.get("/ui/dashboard").text


def test_a_form_of_another_site_is_refused(served: Served) -> None:
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    assert served.client.post("/ui/sign-out").status_code == 401
    assert served.client.post("/ui/sign-out", data={"csrf": "0" * 64}).status_code == 401
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/dashboard").text)
    assert csrf is not None
    assert served.client.post("/ui/sign-out", data={"csrf": csrf[1]}, follow_redirects=False).status_code == 303


def test_a_form_of_another_site_signs_nobody_in(served: Served) -> None:
    token = served.headers["Authorization"].removeprefix("Bearer ")
    answer = served.client.post("/ui/sign-in", data={"token": token}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 401
    assert "dsa110_token" not in served.client.cookies


def test_after_a_sign_in_from_a_part_a_person_is_back_on_the_page(served: Served) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": "http://localhost/ui/dashboard?x=1"}
    page = served.client.get("/ui/sign-in", headers=headers).text
    assert "/ui/sign-in?to=%2Fui%2Fdashboard%3Fx%3D1" in page


def test_fields_that_a_model_refuses_are_a_message_and_no_fault(served: Served) -> None:
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/dashboard").text)
    assert csrf is not None
    answer = served.client.post("/ui/alerts/acknowledge", data={"csrf": csrf[1], "key": "behind/live", "reason": "   "})
    assert answer.status_code == 422
    assert "Next:" in answer.text


@pytest.mark.parametrize("address", ["/ui/observations?calibrator=%00", "/ui/shift/actions?person=%00"])
def test_a_nul_in_a_field_is_refused(served: Served, address: str) -> None:
    assert served.client.get(address).status_code == 422


def test_a_disk_that_does_not_answer_does_not_hide_the_dashboard(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*_: object) -> object:
        raise OSError(116, "Stale file handle", "/data")

    monkeypatch.setattr("dsa110_assets.stages.operations.disk.forecast", dead)
    page = served.get("/ui/dashboard").text
    assert "a disk does not answer" in page
    assert "From raw file to candidate" in page


def test_a_question_that_takes_too_long_is_told_from_a_database_that_is_gone(database) -> None:
    def ask() -> None:
        with database.session() as session:
            session.execute(text("SET LOCAL statement_timeout = 50"))
            session.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(QuestionTooSlowError):
        ask()


def test_templates_of_a_newer_release_do_not_reach_a_running_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade replaces the files while the service runs; a new template with old code was an error 500."""
    templates = shutil.copytree(layout.TEMPLATES, tmp_path / "templates")
    monkeypatch.setattr(layout, "TEMPLATES", templates)
    layout._environment.cache_clear()
    try:
        layout.load_templates()
        environment = layout._environment()
        before = {name: environment.get_template(name) for name in environment.list_templates(extensions=["html"])}
        for name in before:
            (templates / name).write_text("{{ of_the_next_release() }}")
        assert all(environment.get_template(name) is before[name] for name in before)
    finally:
        layout._environment.cache_clear()

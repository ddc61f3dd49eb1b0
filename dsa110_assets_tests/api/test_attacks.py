"""Hostile and careless requests: each gets a problem with its cause, never a trace, and changes nothing."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser

import pytest
import schemathesis
import schemathesis.specs.openapi.checks
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from sqlalchemy import select, text

from dsa110_assets.api import answers, pages
from dsa110_assets.api.pages import visitor
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.schema import ApiAction, ApiToken, Source
from dsa110_assets_tests.api.conftest import GROUPS, HOUR, STRANGE, Served

CASES = int(os.environ.get("DSA110_ATTACK_CASES", "400"))
"""Requests of schemathesis over all addresses."""

HOSTILE = (
    "'; DROP TABLE sources; --", "<script>alert(1)</script>", "../../../etc/passwd", "%00", "\u202e", "a" * 5000, "${jndi:ldap://x}", "%",
    "\\", '"><img src=x onerror=alert(1)>', "' onfocus=alert(1) autofocus='", "javascript:alert(1)", "nan", "1e999", "-1", "99999999999999999999999", "0x10", "[]", "{}",
)  # fmt: skip

HOSTILE_TEXT = ("'; DROP TABLE sources; --", '"><img src=x onerror=alert(1)>', "' onfocus=alert(1) autofocus='", "\u202e\x00", "a" * 5000)

PARTS = {
    "group_id": GROUPS[1], "name": HOUR, "mosaic_name": HOUR, "event_id": 1, "version_id": 1, "source_id": 1, "product": "tile_image",
    "task_id": "00000000-0000-0000-0000-000000000000", "service": "api", "trial": "2026-03-01T05:05:18_0000abcd",
    "night": "2026-03-01", "key": "behind/live", "mosaic": HOUR, "switch_name": "raw_files", "position": "on", "backfill_id": "abcdefgh", "mark_id": 1,
}  # fmt: skip
"""Values of the parts of addresses."""


def is_problem(answer) -> bool:
    return (
        answer.headers["content-type"] == "application/problem+json"
        and {"type", "title", "status", "detail"} <= set(answer.json())
        and "Traceback" not in answer.text
    )


def parameters(served: Served) -> Iterator[tuple[str, str]]:
    for path, methods in served.get("/api/openapi.json").json()["paths"].items():
        for one in methods.get("get", {}).get("parameters", ()):
            if one["in"] == "query":
                yield (
                    path.format(**PARTS),
                    one["name"],
                )


def test_hostile_values_of_each_parameter_are_refused_or_find_nothing(served: Served) -> None:
    number = 0
    for (path, name), value in itertools.product(parameters(served), HOSTILE):
        if path.startswith("/api/absurd"):
            continue
        answer = served.client.get(path, params={name: value})
        number += 1
        assert answer.status_code in (200, 404, 422), (path, name, value, answer.text)
        assert answer.status_code == 200 or is_problem(answer), (path, name, value)
    assert number > 500
    with served.database.session() as session:
        assert STRANGE in session.scalars(select(Source.name)).all()


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/passwords.txt",
        "passwords.txt",
        ".staging",
        "%00",
        "x" * 300,
    ],
)
def test_no_path_of_a_request_reaches_the_file_system(served: Served, name: str) -> None:
    answer = served.client.get(f"/api/versions/{served.versions['tile_image']}/files/{name}")
    assert answer.status_code in (404, 422)
    assert is_problem(answer)
    assert "root:" not in answer.text


def test_a_link_out_of_a_product_is_not_followed(served: Served, tmp_path) -> None:
    from dsa110_assets.products import ProductPaths

    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (ProductPaths.of(served.config).image_dir(GROUPS[1]) / "link.png").symlink_to(secret)
    served.get(f"/api/versions/{served.versions['tile_image']}/files/link.png", status=404)


def test_names_with_markup_are_data_and_never_markup(served: Served) -> None:
    answer = served.get("/api/sources", name="<b>")
    assert answer.json()["items"][0]["name"] == STRANGE
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_revoked_token_and_the_one_before_are_refused(served: Served) -> None:
    url = f"/api/epochs/{HOUR}/exclusion"
    with served.database.session() as session:
        second = people.new_token(session, "J. Doe")
    assert served.client.put(url, json={"reason": "x"}, headers=served.headers).status_code == 401
    headers = {"Authorization": f"Bearer {second}"}
    assert served.client.put(url, json={"reason": "x"}, headers=headers).status_code == 204
    with served.database.session() as session:
        people.revoke_tokens(session, "J. Doe")
    assert served.client.delete(url, headers=headers).status_code == 401


def test_the_registry_keeps_a_hash_and_who_did_what(served: Served) -> None:
    token = served.headers["Authorization"].removeprefix("Bearer ")
    served.client.put(f"/api/epochs/{HOUR}/exclusion", json={"reason": "thunder"}, headers=served.headers)
    with served.database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM api_tokens t WHERE t::text LIKE '%' || :token || '%'"), {"token": token}) == 0
        assert session.scalars(select(ApiToken.person)).all() == ["J. Doe"]
        (action,) = session.scalars(select(ApiAction)).all()
        assert (action.person, action.action, action.subject, action.details) == ("J. Doe", "exclude_epoch", HOUR, {"reason": "thunder"})


@pytest.mark.parametrize("cursor", ["x", "W10", "WyJhIiwiYiJd", "bnVsbA", "W251bGxd", "W05hTl0", "4pyT", "A" * 600, answers.cursor_of([1])])
def test_a_cursor_of_another_list_is_refused(served: Served, cursor: str) -> None:
    assert is_problem(served.get("/api/data/observations", status=422, cursor=cursor))
    assert is_problem(served.get("/api/data/mosaics", status=422, cursor=cursor))


def test_a_large_body_is_refused(served: Served) -> None:
    answer = served.client.post("/api/absurd/tasks", content=b"x" * 100_000, headers=served.headers)
    assert answer.status_code == 413
    assert is_problem(answer)


def test_a_form_of_another_site_changes_nothing(served: Served) -> None:
    answer = served.client.post("/api/backfills", data={"first_night": "2026-03-01"}, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 401
    answer = served.client.options("/api/backfills", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("words", ["\x00", "rain\x00", " \n\t ", ""])
def test_a_reason_without_a_word_or_with_nul_is_refused(served: Served, words: str) -> None:
    for method, url, body in (
        ("PUT", f"/api/epochs/{HOUR}/exclusion", {"reason": words}),
        ("POST", "/api/shift", {"text": words}),
        ("POST", "/api/alerts/acknowledge", {"key": "behind/live", "reason": words}),
    ):
        assert is_problem(served.client.request(method, url, json=body, headers=served.headers)), url


@pytest.mark.parametrize(
    "url",
    ["/api/data/timeline?last=0", "/api/data/timeline/20260301", "/api/data/mosaics?since=-3.6e-206", "/api/calibrations?until=1e3",
     "/api/candidates?night=0.5", "/api/shift?night=1772323200"],
)  # fmt: skip
def test_a_number_is_no_date(served: Served, url: str) -> None:
    assert is_problem(served.client.get(url))
    assert served.client.get(url).status_code == 422


CHECKS = (
    "not_a_server_error", "response_schema_conformance", "content_type_conformance", "response_headers_conformance",
    "status_code_conformance", "negative_data_rejection", "unsupported_method", "missing_required_header", "ignored_auth",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(0)
def test_no_request_that_fits_the_description_or_not_breaks_the_api(served: Served) -> None:
    """Schemathesis makes requests from the OpenAPI text. `make attack` makes 10 000."""
    attack("/api/openapi.json", served, CASES, CHECKS, served.headers)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(0)
def test_no_form_breaks_a_page(served: Served) -> None:
    """The same with the addresses and forms of all pages, which the OpenAPI text does not have."""
    attack(pages_schema(served), served, CASES // 2, ("not_a_server_error",), signed_in(served))


def pages_schema(served: Served) -> str:
    """Address of a description of the pages, which is made for this test."""
    app = FastAPI()
    for router in pages.ROUTERS:
        app.include_router(router)
    described = app.openapi()
    address = "/pages.json"
    served.client.app.add_api_route(address, lambda: described, include_in_schema=False)  # type: ignore[attr-defined]
    return address


def signed_in(served: Served) -> dict[str, str]:
    """Headers of the forms of a person who has signed in."""
    token = served.headers["Authorization"].removeprefix("Bearer ")
    return {"Cookie": f"{visitor.COOKIE}={token}", visitor.CSRF_HEADER: visitor._csrf(token)}


def attack(description: str, served: Served, cases: int, checks: tuple[str, ...], headers: dict[str, str]) -> None:
    """Send valid requests, for what is there and for what is not, and invalid ones; fail with all findings."""
    schema = schemathesis.openapi.from_asgi(description, served.client.app)
    operations = [one.ok() for one in schema.get_all_operations()]
    assert len(operations) > 40
    each = max(1, cases // (3 * len(operations)))
    findings: dict[str, str] = {}
    sent = Counter[int]()

    def send_all(operation, mode: GenerationMode, **parts: object) -> None:
        def send(case) -> None:
            answer = case.call(headers=headers, timeout=LONGEST_ANSWER_S)
            sent[answer.status_code] += 1
            if answer.status_code == 503:  # Dagster does not run here
                return
            try:
                case.validate_response(answer, checks=[schemathesis.checks.CHECKS.get_one(name) for name in checks])
                assert not scripts_in(answer)
            except (BaseExceptionGroup, AssertionError) as error:
                for one in getattr(error, "exceptions", (error,)):
                    findings.setdefault(f"{operation.label}: {type(one).__name__}", f"{one}\n{case.as_curl_command()}\n{answer.text[:500]}")

        quick = settings(
            max_examples=each,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        with suppress(Unsatisfiable):  # an operation without parameters has no invalid request
            quick(given(case=operation.as_strategy(generation_mode=mode, **parts))(send))()

    for operation in operations:
        send_all(operation, GenerationMode.POSITIVE)
        send_all(operation, GenerationMode.POSITIVE, path_parameters={one.name: PARTS[one.name] for one in operation.path_parameters})
        send_all(operation, GenerationMode.NEGATIVE)
    print(f"{sum(sent.values())} requests: {dict(sorted(sent.items()))}")
    assert not findings, "\n\n".join(f"{name}\n{text}" for name, text in findings.items())


class Scripts(HTMLParser):
    """What a browser would run, or fetch, in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "script" and "src" not in values:
            self.found.append("a script inside")
        for name, value in attrs:
            if name.startswith("on") or (name in {"href", "src", "action"} and (value or "").strip().lower().startswith("javascript:")):
                self.found.append(f"{tag} {name}={value}")
        if tag == "img" and values.get("src") == "x":
            self.found.append("an image of somebody else")


def scripts_in(answer) -> list[str]:
    """Scripts that stand in an answer, if a browser takes it for a page."""
    if "text/html" not in str(answer.headers.get("content-type")):
        return []
    reader = Scripts()
    reader.feed(answer.text)
    return reader.found


def test_hostile_values_of_each_field_of_a_page_are_shown_as_text(served: Served) -> None:
    """Each field of each page and form gets each hostile value, while the others have usable ones."""
    described = served.get(pages_schema(served)).json()
    headers = signed_in(served)
    number = 0
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            url = path.format(**PARTS)
            in_address = [field["name"] for field in one.get("parameters", ()) if field["in"] == "query"]
            in_form: list[str] = []
            for content in one.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", content["schema"].get("allOf", [{}])[0].get("$ref", "")).rpartition("/")[2]
                in_form = list(described["components"]["schemas"][name]["properties"])
            for field, value in itertools.product([*in_address, *in_form], HOSTILE_TEXT):
                usable = {name: FIELDS.get(name, "1") for name in in_form}
                parameters = {field: value} if field in in_address else {}
                form = usable | {field: value} if field in in_form else usable
                answer = served.client.request(
                    method.upper(), url, params=parameters or None, data=form or None, headers=headers, follow_redirects=False
                )
                number += 1
                assert answer.status_code in (200, 303, 401, 404, 409, 410, 422, 503), (method, url, field, value, answer.text)
                assert not scripts_in(answer), (method, url, field, value)
    assert number > 400


LONGEST_ANSWER_S = 300.0
"""Schemathesis waits for 10 s. On a busy machine the first list of stale products takes longer; later ones do not."""

FIELDS = {
    "kind": "tile", "decision": "bad", "reason": "rain", "label": "interesting", "text": "quiet", "night": "2026-03-01",
    "first_night": "2026-03-01", "position": "120 16", "ra_deg": "120", "dec_deg": "16", "name": "x", "refant": "103", "only": "",
    "key": "behind/live", "observation": GROUPS[1], "csrf": "",
}  # fmt: skip
"""Usable values of fields of forms."""

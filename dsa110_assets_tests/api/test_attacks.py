"""Hostile and careless requests: each gets a problem with its cause, never a trace, and changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import select, text

from dsa110_assets.api import answers
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.schema import ApiAction, ApiToken, Source
from dsa110_assets_tests.api.conftest import GROUPS, HOUR, STRANGE, Served

HOSTILE = (
    "'; DROP TABLE sources; --", "<script>alert(1)</script>", "../../../etc/passwd", "%00", "\u202e", "a" * 5000, "${jndi:ldap://x}", "%",
    "\\", "nan", "1e999", "-1", "99999999999999999999999", "0x10", "[]", "{}",
)  # fmt: skip

PARTS = {
    "group_id": GROUPS[1], "name": HOUR, "mosaic_name": HOUR, "event_id": 1, "version_id": 1, "source_id": 1, "product": "tile_image",
    "task_id": "0" * 36, "service": "api", "trial": "none",
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


@pytest.mark.filterwarnings("ignore")
def test_no_request_that_fits_the_description_or_not_breaks_the_api(served: Served) -> None:
    """Schemathesis makes requests from the OpenAPI text; a server error or an answer of another shape fails."""
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", served.client.app)
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.CHECKS.get_one("response_schema_conformance"),
    ]
    number = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        def send(case) -> None:
            answer = case.call(headers=served.headers)
            if answer.status_code != 503:  # Dagster does not run here
                case.validate_response(answer, checks=checks)

        quick = settings(
            max_examples=5,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        quick(given(case=operation.as_strategy())(send))()
        number += 1
    assert number > 40

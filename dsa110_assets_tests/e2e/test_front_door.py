"""The services as systemd starts them, behind Debian's nginx with the configuration of deploy/: one address, one login.

Each service is started with the commands of its unit. The configuration is used as it is, with other ports and paths.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest

from dsa110_assets.cli import service
from dsa110_assets.cli.services import free_port, port_is_open
from dsa110_assets.registry.server import embedded_server
from dsa110_assets.stages.operations.services import running_pid
from dsa110_assets_tests.cli.test_up import LONGEST_S, Place

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
DEPLOY = Path(__file__).parents[2] / "deploy"
VENDOR = Path(__file__).parents[2] / "dsa110_assets/api/static"
COOKIE = "dsa110_token"
NGINX = """
daemon off;
{user}
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{ worker_connections 512; }}
http {{
    include /etc/nginx/mime.types;
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/f;
    uwsgi_temp_path {root}/u;
    scgi_temp_path {root}/s;
    include {root}/dsa110.conf;
}}
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Door:
    """The address at which nginx listens. ``tls``: whether it speaks TLS."""

    port: int
    tls: ssl.SSLContext | None = None

    def connection(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.tls)

    def ask(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = self.connection()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def sign_in(self, token: str) -> Answer:
        form = urlencode({"token": token, "to": "/dagster/runs"}).encode()
        return self.ask("/ui/sign-in", method="POST", body=form, Content_Type="application/x-www-form-urlencoded")

    def websocket(self, path: str, message: dict[str, object], **headers: str) -> dict[str, object] | int:
        """First answer to a message over a websocket of graphql-ws; the HTTP status if it is refused."""
        key = base64.b64encode(os.urandom(16)).decode()
        asked = {"Host": f"127.0.0.1:{self.port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key}
        asked |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "graphql-ws"} | headers
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as wire:
            wire.sendall(f"GET {path} HTTP/1.1\r\n".encode() + "".join(f"{k}: {v}\r\n" for k, v in asked.items()).encode() + b"\r\n")
            stream = wire.makefile("rb")
            status = int(stream.readline().split()[1])
            while stream.readline().strip():
                pass
            if status != 101:
                return status
            payload, mask = json.dumps(message).encode(), os.urandom(4)
            assert len(payload) < 126
            wire.sendall(bytes([0x81, 0x80 | len(payload)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))
            kind, length = stream.read(2)
            assert kind == 0x81, "a whole text message"
            return dict(json.loads(stream.read(length & 0x7F)))


def commands_of(unit: str, name: str) -> list[list[str]]:
    lines = re.findall(rf"^{name}=-?(.*)$", (DEPLOY / f"systemd/dsa110-{unit}.service").read_text(), re.MULTILINE)
    return [[sys.executable, "-m", "dsa110_assets.cli.main", *line.split()[1:]] for line in lines]


def until(holds: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < limit, what
        time.sleep(0.2)


@dataclass
class Services:
    """The running services. ``place``: their state directory. ``token``: of a person."""

    place: Place
    processes: dict[str, subprocess.Popen[bytes]]
    token: str
    door_port: int
    carta_port: int

    def log(self, name: str) -> str:
        return (self.place.root / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def nginx() -> str:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is missing: `make extras` installs it")
        pytest.skip("nginx is not installed: `make extras` installs it")
    return program


@pytest.fixture(scope="module")
def services(nginx: str) -> Iterator[Services]:
    """All services, each started by the commands of its unit, in the order of the units."""
    place = Place(Path(tempfile.mkdtemp(prefix="dsa110-door-")))
    place.root.chmod(0o755)
    door_port = free_port()
    here = f"http://127.0.0.1:{door_port}"
    environment = dict(place.settings) | {
        "PIPELINE_UI_URL": f"{here}/dagster",
        "PIPELINE_PAGES_URL": f"{here}/ui",
        "PIPELINE_DOCS_URL": f"{here}/docs",
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in service.Runnable:
            for command in commands_of(name, "ExecStartPre"):
                subprocess.run(command, env=environment, check=True, timeout=LONGEST_S, capture_output=True)
            with (place.root / f"{name}.log").open("wb") as log:
                (command,) = commands_of(name, "ExecStart")
                processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            if name is service.Runnable.DATABASE:
                until(lambda: embedded_server(place.config).address() is not None, "the database")
        made = subprocess.run(
            [sys.executable, "-m", "dsa110_assets.cli.main", "api", "token", "Ann"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found = Services(place, processes, made.stdout.split()[0], door_port, free_port())
        for port in (place.config.api_port, place.config.dagster_port):
            until(lambda port=port: port_is_open(port), found.log("webserver") + found.log("api"))
        yield found
    finally:
        for process in reversed(processes.values()):
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        assert embedded_server(place.config).address() is None, "the unit of the database stops it"
        shutil.rmtree(place.root)


@contextmanager
def door(nginx: str, services: Services, listen: str, *, tls: ssl.SSLContext | None = None, root: Path) -> Iterator[Door]:
    """The front door with one of the two listen files."""
    port = services.door_port

    def installed(name: str) -> str:
        given = (DEPLOY / "nginx" / name).read_text()
        for before, after in (
            ("127.0.0.1:8000", f"127.0.0.1:{services.place.config.api_port}"),
            ("127.0.0.1:3000", f"127.0.0.1:{services.place.config.dagster_port}"),
            ("127.0.0.1:9002", f"127.0.0.1:{services.carta_port}"),
            ("listen [::]:3210", "# listen"),
            ("listen 3210", f"listen 127.0.0.1:{port}"),
            ("/etc/dsa110", str(root)),
        ):
            given = given.replace(before, after)
        return given

    (root / "dsa110.conf").write_text(installed("dsa110.conf"))
    (root / "listen.conf").write_text(installed(listen))
    (root / "nginx.conf").write_text(NGINX.format(root=root, user="user nobody nogroup;" if os.geteuid() == 0 else ""))
    process = subprocess.Popen([nginx, "-e", "stderr", "-p", str(root), "-c", str(root / "nginx.conf")], stderr=subprocess.PIPE)
    try:
        until(lambda: port_is_open(port) or process.poll() is not None, "nginx")
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield Door(port, tls)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def place_of_door(services: Services) -> Iterator[Path]:
    root = services.place.root / "door"
    root.mkdir()
    yield root
    shutil.rmtree(root)


@pytest.fixture
def plain(nginx: str, services: Services, place_of_door: Path) -> Iterator[Door]:
    with door(nginx, services, "listen-plain.conf", root=place_of_door) as one:
        yield one


def test_nothing_but_the_sign_in_page_is_open_without_a_login(plain: Door) -> None:
    assert plain.ask("/").headers["location"] == "/ui/dashboard"
    for path in ("/ui/dashboard", "/ui/observations?night=2026-03-01", "/dagster/runs", "/docs/", "/api/docs"):
        answer = plain.ask(path)
        assert (answer.status, answer.headers["location"]) == (302, f"/ui/sign-in?to={path}"), path
    assert plain.ask("/ui/sign-in").status == 200
    for path in ("/api/status", "/api/openapi.json", "/api/events", "/dagster/graphql/../../api/status"):
        assert plain.ask(path).status == 401, path
    for path in ("/metrics", "/dsa110-session", "/etc/passwd", "/ui/../metrics"):
        assert plain.ask(path).status == 404, path
    assert plain.ask("/api/status", Authorization="Bearer dsa110_wrong").status == 401
    assert plain.ask("/ui/dashboard", Cookie=f"{COOKIE}=dsa110_wrong").status == 302


def test_one_login_opens_pages_dagster_documentation_and_api(plain: Door, services: Services) -> None:
    signed_in = plain.sign_in(services.token)
    assert (signed_in.status, signed_in.headers["location"]) == (303, "/dagster/runs")
    cookie = signed_in.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    mine = cookie.partition(";")[0]
    page = plain.ask("/ui/dashboard", Cookie=mine)
    assert page.status == 200
    assert f'href="http://127.0.0.1:{services.door_port}/dagster' in page.body.decode(), "pages lead to Dagster through the door"
    ui = plain.ask("/dagster/runs", Cookie=mine)
    assert ui.status == 200
    assert '"pathPrefix": "/dagster"' in re.sub(r"\s+", " ", ui.body.decode()).replace('":"', '": "')
    script = re.search(r'src="(/dagster/[^"]+\.js)"', ui.body.decode())
    assert script is not None
    assert plain.ask(script[1], Cookie=mine).status == 200
    assert plain.ask("/docs/", Cookie=mine).headers.get("server") != "", "answered by the API, or being built"
    assert plain.ask("/api/status", Authorization=f"Bearer {services.token}").status == 200
    assert plain.ask("/api/status", Cookie=mine).status == 200


def test_dagster_behind_the_door_answers_to_questions_and_over_a_websocket(plain: Door, services: Services) -> None:
    mine = {"Cookie": f"{COOKIE}={services.token}"}

    def asked(query: str) -> dict[str, object]:
        answer = plain.ask(
            "/dagster/graphql", method="POST", body=json.dumps({"query": query}).encode(), Content_Type="application/json", **mine
        )
        return dict(json.loads(answer.body)["data"])

    assert asked("{version}")["version"]
    locations = "{workspaceOrError {... on Workspace {locationEntries {name loadStatus locationOrLoadError {__typename}}}}}"
    until(lambda: '"RepositoryLocation"' in json.dumps(asked(locations)), services.log("code-server"))
    health = "{instance {daemonHealth {allDaemonStatuses {daemonType required healthy}}}}"
    until(lambda: '"daemonType": "SENSOR", "required": true, "healthy": true' in json.dumps(asked(health)), services.log("daemon"))
    hello = {"type": "connection_init", "payload": {}}
    assert plain.websocket("/dagster/graphql", hello, **mine) == {"type": "connection_ack"}
    assert plain.websocket("/dagster/graphql", hello) == 302, "no websocket without a login"


class _Carta(BaseHTTPRequestHandler):
    """What the door needs of CARTA: a page below /, and a websocket. It repeats what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        seen = {"path": self.path, "cookie": self.headers.get("Cookie"), "token": self.headers.get("Authorization")}
        body = json.dumps(seen).encode()
        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode())
            self.end_headers()
            self.wfile.write(bytes([0x81, len(body)]) + body)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_carta_is_behind_the_same_login_with_its_websocket_and_never_sees_the_token(plain: Door, services: Services) -> None:
    mine = {"Cookie": f"{COOKIE}={services.token}"}
    assert plain.ask("/carta/", **mine).status == 502, "none runs"
    server = ThreadingHTTPServer(("127.0.0.1", services.carta_port), _Carta)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        answer = plain.ask("/carta/?folder=images&file=a.fits", **mine)
        seen = {"path": "/?folder=images&file=a.fits", "cookie": None, "token": None}
        assert (answer.status, json.loads(answer.body)) == (200, seen)
        assert plain.websocket("/carta/websocket", {}, **mine) == {"path": "/websocket", "cookie": None, "token": None}
        unknown = plain.ask("/carta/?file=a.fits")
        assert (unknown.status, unknown.headers["location"]) == (302, "/ui/sign-in?to=/carta/?file=a.fits")
        assert plain.websocket("/carta/websocket", {}) == 302, "no websocket without a login"
    finally:
        server.shutdown()
        server.server_close()


def test_downloads_pass_whole_and_in_parts_and_events_at_once(plain: Door, services: Services) -> None:
    mine = {"Cookie": f"{COOKIE}={services.token}"}
    direct = Door(services.place.config.api_port)
    page = plain.ask("/ui/dashboard", **mine).body.decode()
    static = re.search(r"/ui/static/[0-9a-f]+", page)
    assert static is not None
    largest = max((VENDOR / "vendor").rglob("*.js"), key=lambda path: path.stat().st_size)
    address = f"{static[0]}/{largest.relative_to(VENDOR)}"
    whole = plain.ask(address, **mine)
    assert whole.body == largest.read_bytes() == direct.ask(address).body
    assert len(whole.body) > 1_000_000
    part = plain.ask(address, Range="bytes=1000-1999", **mine)
    assert (part.status, part.body) == (206, whole.body[1000:2000])
    connection = plain.connection()
    connection.request("GET", "/api/events", headers={"Accept": "text/event-stream", **mine})
    answer = connection.getresponse()
    assert answer.status == 200
    lines = [answer.readline() for _ in range(4)]
    assert any(line.startswith(b"event: state") for line in lines), f"the first event comes while the stream is open: {lines}"
    connection.close()


def test_the_door_limits_sizes_and_how_often_somebody_may_guess_a_token(plain: Door, services: Services) -> None:
    too_large = plain.ask("/api/status", method="POST", body=bytes(21 << 20), Authorization=f"Bearer {services.token}")
    assert too_large.status == 413
    guesses = [plain.sign_in(f"dsa110_guess{number}").status for number in range(20)]
    assert set(guesses) == {401, 429}
    assert guesses[-1] == 429


def test_over_tls_the_cookie_is_secure_old_protocols_are_refused_and_http_is_sent_on(
    nginx: str, services: Services, place_of_door: Path
) -> None:
    keys = place_of_door / "tls"
    keys.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", str(keys / "privkey.pem"), "-out", str(keys / "fullchain.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    trusted = ssl.create_default_context(cafile=str(keys / "fullchain.pem"))
    with door(nginx, services, "listen-tls.conf", tls=trusted, root=place_of_door) as secure:
        signed_in = secure.sign_in(services.token)
        assert "Secure" in {part.strip() for part in signed_in.headers["set-cookie"].split(";")}
        assert "max-age=63072000" in signed_in.headers["strict-transport-security"]
        assert secure.ask("/ui/dashboard", Cookie=signed_in.headers["set-cookie"].partition(";")[0]).status == 200
        unencrypted = Door(secure.port).ask("/ui/dashboard")
        assert (unencrypted.status, unencrypted.headers["location"]) == (301, f"https://127.0.0.1:{secure.port}/ui/dashboard")
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}"]
        for version, status in (("-tls1_1", 1), ("-tls1_2", 0), ("-tls1_3", 0)):
            tried = subprocess.run([*command, version], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            assert tried.returncode == status, version


def test_up_does_not_start_beside_services_of_a_service_manager(services: Services) -> None:
    refused = services.place.run("up")
    assert refused.returncode == 2
    assert "services of a service manager" in " ".join(refused.stderr.split())
    assert running_pid(services.place.config) is None
    assert all(process.poll() is None for process in services.processes.values())

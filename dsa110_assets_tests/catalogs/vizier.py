"""A local VizieR with two small responses in the recorded format, served over HTTPS to an unchanged astroquery."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_plus

HEADER = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"
  xsi:schemaLocation="http://www.ivoa.net/xml/VOTable/v1.3 http://www.ivoa.net/xml/VOTable/v1.3">
<DESCRIPTION>VizieR Astronomical Server vizier.cds.unistra.fr</DESCRIPTION>
<INFO ID="VERSION" name="votable-version" value="1.99+ (14-Oct-2013)"/>
<INFO ID="MaxTuples" name="-out.max" value="unlimited"/>
<RESOURCE ID="yCat_{number}" name="{catalogue}">
  <DESCRIPTION>{title}</DESCRIPTION>
  <COOSYS ID="H_2000" system="FK5" equinox="2000"/>
  <TABLE ID="{identifier}" name="{table}">
    <DESCRIPTION>{title}</DESCRIPTION>
"""
FOOTER = """</TABLEDATA></DATA>
</TABLE>
</RESOURCE>
</VOTABLE>
"""
EMPTY = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<INFO name="QUERY_STATUS" value="OK"/>
<RESOURCE name="META"/>
</VOTABLE>
"""


def _field(name: str, unit: str, kind: str = "float") -> str:
    identifier = name.replace(".", "_")
    return (
        f'    <FIELD name="{name}" ID="{identifier}" datatype="{kind}" unit="{unit}">\n'
        f'      <DESCRIPTION>{name}</DESCRIPTION>\n      <VALUES null="NaN" />\n    </FIELD>\n'
        if kind == "float"
        else f'    <FIELD name="{name}" ID="{identifier}" datatype="{kind}"{f" unit={chr(34)}{unit}{chr(34)}" if unit else ""}/>\n'
    )


def votable(table: str, title: str, fields: list[tuple[str, str, str]], rows: list[tuple[object, ...]]) -> str:
    """A response of VizieR; fields are (name, unit, datatype), None is an empty cell."""
    number = table.split("/")[1]
    head = HEADER.format(number=number, catalogue=table.rsplit("/", 1)[0], title=title, identifier=table.replace("/", "_"), table=table)
    body = "".join("<TR>" + "".join("<TD/>" if cell is None else f"<TD>{cell}</TD>" for cell in row) + "</TR>\n" for row in rows)
    return head + "".join(_field(*field) for field in fields) + "<DATA><TABLEDATA>\n" + body + FOOTER


NVSS = [  # the first is 0834+555
    ("128.728796", "+55.572475", 8283.1, 248.5, 15.6, 13.6, -44.4),
    ("128.211792", "+55.109944", 61.5, 1.9, 18.9, None, None),
    ("359.910000", "+54.000000", 12.0, 0.5, None, None, None),
    ("10.000000", "+49.000000", 800.0, 20.0, None, None, None),  # outside the strip, inside a cone
]
NVSS_FIELDS = [("_RAJ2000", "deg", "double"), ("_DEJ2000", "deg", "double"), ("S1.4", "mJy", "float"), ("e_S1.4", "mJy", "float"),
               ("MajAxis", "arcsec", "float"), ("MinAxis", "arcsec", "float"), ("PA", "deg", "float")]  # fmt: skip
VLASS = [  # good; flagged as a duplicate; doubtful quality; negative declination
    ("128.728780", "+55.572530", 5120.0, 8.1, 4950.5, 3.02, 2.41, 88.0, 0, 0),
    ("128.728781", "+55.572531", 5121.0, 8.1, 4951.5, 3.02, 2.41, 88.0, 2, 0),
    ("130.000000", "+54.500000", 3.1, 0.4, 2.2, 4.0, 2.5, 10.0, 0, 1),
    ("131.123456", "+54.654321", 9.7, 0.6, 8.8, 3.1, 2.5, 11.0, 1, 4),
]
VLASS_FIELDS = [("_RAJ2000", "deg", "double"), ("_DEJ2000", "deg", "double"), ("Ftot", "mJy", "float"), ("e_Ftot", "mJy", "float"),
                ("Fpeak", "mJy/beam", "float"), ("Maj", "arcsec", "float"), ("Min", "arcsec", "float"), ("PA", "deg", "float"),
                ("DupFlag", "", "short"), ("QualFlag", "", "short")]  # fmt: skip
ANSWERS = {
    "VIII/65/nvss": votable("VIII/65/nvss", "The NVSS Catalog", NVSS_FIELDS, NVSS),
    "J/ApJS/255/30/comp": votable("J/ApJS/255/30/comp", "VLASS QL Ep.1 components", VLASS_FIELDS, VLASS),
}


@contextmanager
def served(directory: Path, answers: dict[str, str]) -> Iterator[tuple[str, Path, list[str]]]:
    """Serve VizieR's script over HTTPS; yield host:port, the certificate, and the growing list of requests."""
    certificate, key = directory / "vizier.pem", directory / "vizier.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    requests: list[str] = []

    class Script(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = unquote_plus(self.rfile.read(int(self.headers["Content-Length"])).decode())
            requests.append(body)
            table = next((line.removeprefix("-source=") for line in body.splitlines() if line.startswith("-source=")), "")
            answer = answers.get(table, EMPTY).encode()
            self.send_response(200 if self.path == "/viz-bin/votable" else 404)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("localhost", 0), Script)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_port}", certificate, requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

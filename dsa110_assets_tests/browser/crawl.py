"""Open every page of a running platform in Chromium: `make crawl ARGS="--token TOKEN"`.

Meant for the finished demonstration (`make demo`), whose address is the default. It follows all links of the pages
under /ui/, up to ``--each`` addresses of one form, opens what folds, presses each button that sends nothing, and asks
for each file, picture and address of the API that a page names. Errors on the console, failed requests, requests that
leave the machine, and links to nothing end in exit code 1. With ``--pictures DIRECTORY`` it keeps pictures.

With ``--press`` (and a token) it then fills in and sends the forms of these pages, each kind once: it marks, labels,
excludes, writes, switches, retries, backfills, restarts. Use it only where nothing matters. What is refused is printed;
a fault of the server is an error.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urldefrag, urljoin, urlsplit

from playwright.sync_api import APIResponse, BrowserContext, Error, Locator, Page, TimeoutError, sync_playwright  # noqa: A004

from dsa110_assets_tests.browser.conftest import GRAPHICS

_IDENTIFIERS = re.compile(r"\d{4}-\d{2}-\d{2}T[\d:]+|(hourly|nightly)_[^/?]+|\d{4}-\d{2}-\d{2}|[0-9a-f]{8}-[0-9a-f-]{27}|(?<=/)\d+")
LONGEST_MS = 120_000
SENT_WITHIN_MS = 60_000
BACK_WITHIN_S = 90.0
BUILT_WITHIN_S = 300.0
_TYPED = {"number": "1", "date": "2026-03-12", "datetime-local": "2026-03-12T05:00", "password": "none"}


def form_of(address: str) -> str:
    """The form of an address: identifiers and values of parameters do not count."""
    parts = urlsplit(address)
    return _IDENTIFIERS.sub("*", parts.path) + "?" + "&".join(sorted({name for name, _ in parse_qsl(parts.query)}))


@dataclass
class Crawl:
    """A crawl from one start. ``found``: what is wrong, by page."""

    start: str
    each: int
    pictures: Path | None
    found: list[str] = field(default_factory=list)
    visited: list[str] = field(default_factory=list)
    files: int = 0
    answers: list[str] = field(default_factory=list)

    def run(self, context: BrowserContext) -> None:
        """Visit pages until no new form of address is known."""
        waiting, known, forms = [self.start], {self.start}, Counter[str]()
        page = context.new_page()
        place = [""]
        page.on("console", lambda message: message.type in ("error", "warning") and self._note(place[0], f"console: {message.text}"))
        page.on("pageerror", lambda error: self._note(place[0], f"script: {error}"))
        page.on("request", lambda request: self._stays(request.url) or self._note(place[0], f"left the machine: {request.url}"))
        page.on("response", lambda answer: answer.status >= 400 and self._note(place[0], f"{answer.status}: {answer.url}"))
        page.on("dialog", lambda dialog: dialog.dismiss())
        while waiting:
            place[0] = waiting.pop(0)
            page.goto(place[0], wait_until="load", timeout=LONGEST_MS)
            page.wait_for_timeout(1500)  # parts that load themselves; /ui/ pages keep a stream open, so there is no idle network
            self.visited.append(place[0])
            if self.pictures is not None:
                name = re.sub(r"[^A-Za-z0-9]+", "_", place[0].partition("/ui/")[2])[:80]
                page.screenshot(path=self.pictures / f"{len(self.visited):03d}_{name}.png", full_page=True)
            self._look(page)
            for address, is_page in self._links(page):
                if address in known or forms[form_of(address)] >= self.each:
                    continue
                known.add(address)
                forms[form_of(address)] += 1
                if is_page:
                    waiting.append(address)
                else:
                    self.files += 1
                    answer = self._asked(context, address)
                    if answer.status not in (200, 206):
                        self._note(place[0], f"names {address}: {answer.status} {answer.text()[:120]}")

    def _asked(self, context: BrowserContext, address: str) -> APIResponse:
        """Answer to an address that is no page. The documentation is built when somebody first asks for it."""
        until = time.monotonic() + BUILT_WITHIN_S
        while True:
            answer = context.request.get(address, timeout=LONGEST_MS)
            if answer.status != 503 or "being built" not in answer.text() or time.monotonic() > until:
                return answer
            time.sleep(1)

    def press(self, context: BrowserContext) -> None:
        """Fill in and send each kind of form of the visited pages; what ends the service or the visit comes last."""
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        page.on("pageerror", lambda error: self._note(page.url, f"script: {error}"))
        kinds: dict[str, tuple[str, str, str]] = {}
        for place in self.visited:
            self._open(page, place)
            page.wait_for_timeout(1000)
            for form in page.locator("form[method=post]").all():
                action = urljoin(page.url, form.get_attribute("action") or "")
                words = " ".join((form.locator("button").first.text_content() or "").split())
                kinds.setdefault(f"{form_of(action)} {words}", (place, form.get_attribute("action") or "", words))
        for kind in sorted(kinds, key=lambda one: ("sign-out" in one, "restart" in one.lower(), one)):
            place, action, words = kinds[kind]
            self._open(page, place)
            page.wait_for_timeout(1000)
            selector = f'form[method=post][action="{action}"]' if action else "form[method=post]:not([action])"
            forms = [one for one in page.locator(selector).all() if words in " ".join((one.text_content() or "").split())]
            if not forms:
                self.answers.append(f"{kind}: is gone after what was sent before")
                continue
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            status, told = self._send(page, forms[0], words)
            if status == 0 and "restart" in kind.lower():  # the API itself may be restarting
                time.sleep(BACK_WITHIN_S / 3)
                self._open(page, place)
                status, told = self._send(page, page.locator(selector).first, words)
            self.answers.append(f"{kind}: {status or 'was not sent:'} {told}")
            print(self.answers[-1], flush=True)
            if status == 0 or status >= 500:
                self._note(place, f"{kind}: {status} {told}")

    def _open(self, page: Page, place: str) -> None:
        """Open a page; a service that was restarted may take a minute to come back."""
        until = time.monotonic() + BACK_WITHIN_S
        while True:
            try:
                page.goto(place, wait_until="load", timeout=LONGEST_MS)
            except Error:
                if time.monotonic() > until:
                    raise
                time.sleep(2)
            else:
                return

    def _send(self, page: Page, form: Locator, words: str) -> tuple[int, str]:
        """Fill in a form and press its button; the status of the answer, 0 for none, and what was said."""
        for box in form.locator("textarea, input:not([type=hidden]):not([type=checkbox]):not([type=radio])").all():
            if box.is_visible() and box.is_editable() and not box.input_value():
                example = box.get_attribute("placeholder") or box.get_attribute("min") or ""
                box.fill(example if example[:1].isdigit() else _TYPED.get(box.get_attribute("type") or "text", "tried by the crawl"))
        for box in form.locator("select").all():
            if box.is_visible() and not box.input_value():
                box.select_option(index=1)
        wrong = form.evaluate("form => [...form.elements].filter(one => !one.checkValidity()).map(one => one.name)")
        if wrong:
            return 0, f"the browser does not accept {', '.join(wrong)}"
        button = form.get_by_role("button", name=words, exact=True).first
        try:
            with page.expect_response(lambda answer: answer.request.method == "POST", timeout=SENT_WITHIN_MS) as caught:
                button.click(timeout=SENT_WITHIN_MS)
        except TimeoutError as error:
            return 0, str(error).splitlines()[0]
        page.wait_for_load_state("load", timeout=LONGEST_MS)
        page.wait_for_timeout(500)
        status = caught.value.status
        return status, "" if status < 400 else " ".join(page.locator("main").inner_text().split())[:200]

    def _look(self, page: Page) -> None:
        if page.locator("h1").count() != 1:
            self._note(page.url, f"{page.locator('h1').count()} titles")
        for one in page.locator("details:not([open]) > summary").all():
            if one.is_visible():
                one.click()
        for one in page.locator("button[type=button]:not([disabled])").all():
            if one.is_visible() and not one.get_attribute("hx-post"):
                one.click(timeout=LONGEST_MS)
                page.keyboard.press("Escape")
        page.wait_for_timeout(300)

    def _links(self, page: Page) -> list[tuple[str, bool]]:
        """Addresses of this server that a page names, and whether each is a page."""
        named = page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")
        named += page.eval_on_selector_all("img[src]", "all => all.map(one => one.getAttribute('src'))")
        named += page.eval_on_selector_all("[data-url]", "all => all.map(one => one.dataset.url)")
        links: list[tuple[str, bool]] = []
        for one in named:
            address = urldefrag(urljoin(page.url, one)).url
            if urlsplit(address).netloc == urlsplit(self.start).netloc and not address.startswith("data:"):
                links.append((address, urlsplit(address).path.startswith("/ui/")))
        return links

    def _stays(self, address: str) -> bool:
        return address.startswith(("data:", "blob:")) or urlsplit(address).netloc == urlsplit(self.start).netloc

    def _note(self, place: str, what: str) -> None:
        self.found.append(f"{place}: {what}")


def main() -> None:
    """Crawl and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="http://127.0.0.1:8000/ui/dashboard")
    parser.add_argument("--token", default="", help="as a person who has signed in: `dsa110 api token NAME`")
    parser.add_argument("--each", type=int, default=2, help="addresses of one form")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--press", action="store_true", help="send each kind of form, too: this changes things")
    arguments = parser.parse_args()
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    crawl = Crawl(arguments.start, arguments.each, arguments.pictures)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", *GRAPHICS])
        context = browser.new_context(viewport={"width": arguments.width, "height": 1000}, color_scheme="dark")
        if arguments.token:
            site = urljoin(arguments.start, "/ui")
            context.add_cookies([{"name": "dsa110_token", "value": arguments.token, "url": site, "httpOnly": True, "sameSite": "Strict"}])
        crawl.run(context)
        print(f"{len(crawl.visited)} pages, {crawl.files} other addresses", flush=True)
        if arguments.press:
            crawl.press(context)
        browser.close()
    print(f"{len(crawl.visited)} pages, {crawl.files} other addresses, {len(crawl.answers)} forms")
    print("\n".join(sorted(set(crawl.found))) or "nothing is wrong")
    sys.exit(bool(crawl.found))


if __name__ == "__main__":
    main()

"""The calibrator manual: columns by their place; every line is taken, or named with its reason; the sums agree."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.catalogs.calibrators import find, read_manual, read_manual_file
from dsa110_assets.errors import NonRetriableError
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.inputs.effort import examples
from dsa110_assets_tests.reference_data import reference_data

ENTRY = "0834+555   J2000  A 08h34m54.904117s  55d34'21.070980\"  Aug01\n"


def band(flux: str = "", uvmin: str = "", uvmax: str = "", codes: str = "S P P P", name: str = " 20cm    L") -> str:
    return f"{name}  {codes}{flux:>11}{uvmin:>13}{uvmax:>12}"


@pytest.mark.parametrize(("flux", "expected"), [("", None), ("8.80", 8.8), ("?", None), ("0.00", None)])
def test_a_number_beside_an_empty_flux_field_is_no_flux(flux, expected):
    (one,) = read_manual(ENTRY + band(flux, "15", "200")).entries
    assert one.flux_jy == expected
    assert one.quality == "SPPP"


def test_every_line_is_taken_or_named_and_repetitions_are_counted():
    text = (
        MANUAL + "\n" + ENTRY + band("8.8") + "\n\n" + ENTRY + band("8.8") + "\n\n0003-174   J2000  T 00h03m21.9969s   17\n" + band("2.2")
        + "\n\n0004+462   J2000  A 00h04m16.1s  46d75'17.9\"\n\n" + ENTRY.replace("0834", "0835") + band("1.2.3") + "\n"
    )  # fmt: skip
    manual = read_manual(text)
    assert manual.n_repeated == 1
    assert [re.sub(r"line \d+, (.*?):.*", r"\1", line) for line in manual.unread] == [
        "its position is not in the manual's format",
        "its position is impossible",
        "its flux is no number",
    ]
    assert text.count(" J2000 ") == len(manual.entries) + manual.n_repeated + 2


@pytest.mark.parametrize("flux", ["1e30", "-8.8", "8,80", "8800mJy", "1_0", "nan", "inf"])
def test_a_flux_that_no_source_has_is_named_and_not_used(flux):
    manual = read_manual(ENTRY + band(flux))
    assert manual.entries[0].flux_jy is None
    assert "its flux is no number" in manual.unread[0]


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: b"\xef\xbb\xbf" + text[text.index(b"0834") :],
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: text.replace(b"3C286", b"Caf\xe9"),
        lambda text: re.sub(rb" {2,}", b"\t", text),
        lambda text: text.replace(b"\n\n", b"\n\0\n"),
        lambda text: b"<html><pre>" + text + b"</pre></html>",
        lambda text: text.replace(b"\n", b"   \n"),
    ],
    ids=["mark of Windows", "CRLF", "CR", "latin-1", "tabs", "NUL", "HTML", "blanks at ends"],
)
def test_the_manual_in_the_forms_in_which_people_keep_it_is_the_same(tmp_path, changed):
    path = tmp_path / "manual.txt"
    path.write_bytes(changed(MANUAL.encode()))
    found, right = read_manual_file(path), read_manual(MANUAL)
    values = [[(one.name, one.ra_deg, one.dec_deg, one.flux_jy, one.quality) for one in manual.entries] for manual in (found, right)]
    assert values[0] == values[1]
    assert found.unread == ()


def test_all_lines_of_the_real_manual_are_read():
    text = reference_data("vla_calibrators.txt").read_text(encoding="ascii", errors="replace")
    manual = read_manual(text)
    assert (manual.unread, manual.n_repeated) == ((), 0)
    assert len(manual.entries) == text.count(" J2000 ") == 1865
    assert find(manual.entries, "J1331+3030") is find(manual.entries, "3C286") is find(manual.entries, "1331+305")


@settings(max_examples=examples(), deadline=None)
@given(
    st.lists(
        st.sampled_from(MANUAL.splitlines()) | st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=70), max_size=40
    )
)
def test_property_the_lines_of_a_calibrator_list_are_taken_or_named_or_the_list_is_refused(lines):
    text = "\n".join(lines)
    try:
        manual = read_manual(text)
    except NonRetriableError:
        return
    named = sum("position" in line for line in manual.unread)
    assert text.count(" J2000 ") >= len(manual.entries) + manual.n_repeated + named - 1
    assert all(one.flux_jy is None or one.flux_jy > 0 for one in manual.entries)

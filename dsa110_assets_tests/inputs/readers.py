"""What reads the files and the settings that people give: found in the code, and the property test of each.

A reader is a function of the package that a command's file option, or a setting with a file, leads to.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig

PROPERTY_TESTS: dict[str, str] = {
    "photometry peak image": "test_property_an_image_is_measured_or_refused",
    "photometry peak noise": "test_property_an_image_is_measured_or_refused",
    "photometry peak positions": "test_property_a_list_of_positions_is_read_or_refused",
    "photometry adaptive image": "test_property_an_image_is_measured_or_refused",
    "photometry adaptive noise": "test_property_an_image_is_measured_or_refused",
    "photometry adaptive positions": "test_property_a_list_of_positions_is_read_or_refused",
    "catalogs refresh file": "test_property_a_catalog_is_read_or_refused",
    "catalogs transits raw": "test_property_no_file_option_hangs_or_shows_a_trace",
    "calibrate ms": "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named",
    "calibrate bandpass": "test_property_no_file_option_hangs_or_shows_a_trace",
    "apply ms": "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named",
    "apply caltable": "test_property_no_file_option_hangs_or_shows_a_trace",
    "image ms": "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named",
    "image mask": "test_property_no_file_option_hangs_or_shows_a_trace",
    "image catalog": "test_property_a_catalog_is_read_or_refused",
    "export ms": "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named",
    "convert groups input_dir": "test_property_no_file_option_hangs_or_shows_a_trace",
    "convert ms source": "test_property_a_measurement_set_is_used_or_what_is_wrong_is_named",
    "mosaic plan products_db": "test_property_no_file_option_hangs_or_shows_a_trace",
    "mosaic build products_db": "test_property_no_file_option_hangs_or_shows_a_trace",
    "up input_dir": "test_property_a_setting_is_taken_or_refused_by_its_name",
    "up output_dir": "test_property_a_setting_is_taken_or_refused_by_its_name",
    "up scratch_dir": "test_property_a_setting_is_taken_or_refused_by_its_name",
    "db restore path": "test_property_no_file_option_hangs_or_shows_a_trace",
    "setting vla_calibrators_file": "test_property_the_lines_of_a_calibrator_list_are_taken_or_named_or_the_list_is_refused",
    "setting nvss_file": "test_property_a_catalog_is_read_or_refused",
    "setting monitored_sources_file": "test_property_a_list_of_positions_is_read_or_refused",
}
"""Property test of each file option (command and parameter) and each setting that names a file to read."""

WRITTEN = {
    "photometry peak output", "photometry adaptive output", "calibrate output", "apply output", "image imagename", "export output",
    "convert groups output_dir", "convert ms output", "db backup path", "db export path", "lightcurve show output", "lightcurve export output", "mosaic build output",
    "simulate tile output", "simulate tile reference", "simulate night output", "simulate night reference",
    "db relocate old", "db relocate new", "demo directory",
}  # fmt: skip
"""Options that name what a command writes, or a directory whose name alone counts."""


def commands() -> Iterator[tuple[str, Any]]:
    """All commands with their words, such as ``photometry peak``."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, one in command.commands.items():
                yield from below(one, (*words, name))
        else:
            yield " ".join(words), command

    yield from below(typer.main.get_command(app), ())


def file_options() -> set[str]:
    """Command and parameter of every option and argument that takes a path."""
    found: set[str] = set()
    for words, command in commands():
        callback = inspect.unwrap(command.callback) if command.callback is not None else None
        hints = typing.get_type_hints(callback) if callback is not None else {}
        for parameter, hint in hints.items():
            if _takes_path(hint):
                found.add(f"{words} {parameter}")
    return found


def _takes_path(hint: Any) -> bool:
    return hint is Path or any(map(_takes_path, typing.get_args(hint)))


def numbers() -> Iterator[tuple[str, str, Any]]:
    """Command, parameter, and the option or argument with ``min`` and ``max``, of each parameter that is a number."""
    for words, command in commands():
        if command.callback is None:
            continue
        for parameter, hint in typing.get_type_hints(inspect.unwrap(command.callback), include_extras=True).items():
            described = getattr(hint, "__metadata__", ())
            if described and {int, float} & set(_kinds(typing.get_args(hint)[0])):
                yield words, parameter, described[0]


def _kinds(hint: Any) -> Iterator[Any]:
    yield hint
    for one in typing.get_args(hint):
        yield from _kinds(one)


def file_settings() -> set[str]:
    """Settings that name a file to read."""
    return {
        f"setting {name}"
        for name, field in PipelineConfig.model_fields.items()
        if Path in (field.annotation, *typing.get_args(field.annotation)) and name.endswith("_file")
    }

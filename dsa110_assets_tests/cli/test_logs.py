"""Log files of services stay bounded while the service keeps writing."""

from dsa110_assets.cli.logs import rotate


def test_a_log_is_rotated_under_a_service_that_keeps_it_open(tmp_path) -> None:
    log = tmp_path / "daemon.log"
    with log.open("ab", buffering=0) as service:
        for number in range(8):
            service.write(f"round {number}\n".encode() * 100)
            assert rotate(log, limit_bytes=500, kept=3)
        service.write(b"afterwards\n")
    assert log.read_text() == "afterwards\n", "no hole at the beginning"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["daemon.log", "daemon.log.1", "daemon.log.2", "daemon.log.3"]
    assert [(tmp_path / f"daemon.log.{n}").read_text()[:7] for n in (1, 2, 3)] == ["round 7", "round 6", "round 5"]


def test_a_small_log_is_left_alone(tmp_path) -> None:
    log = tmp_path / "daemon.log"
    log.write_text("short\n")
    assert not rotate(log, limit_bytes=500)
    assert not rotate(tmp_path / "none.log", limit_bytes=500)

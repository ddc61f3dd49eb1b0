"""How CASA itself reads a Measurement Set. Run as a program, in its own process, it prints one line of JSON.

``python -m dsa110_assets_tests.conversion.casa_probe MS [ra_deg dec_deg]``: with a position, CASA's `ft` predicts a 10
Jy point source there, and the output summarizes the phases of DATA relative to it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def inspect_with_casa(ms: Path, *position: float) -> dict:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(ms), *map(str, position)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ms.parent,
        check=True,
    )
    answer = json.loads(result.stdout.strip().splitlines()[-1])
    lines = [line for line in result.stderr.splitlines() if "SEVERE" in line or "WARN" in line]
    # warnings about the age of CASA's own tables and about closing tools do not concern the data
    answer["warnings"] = [line for line in lines if not any(known in line for known in ("MeasTable", "out-of-date", "TAI_UTC", "closed"))]
    return answer


def main() -> None:
    import numpy as np
    from casatools import componentlist, imager, measures, msmetadata, quanta, table
    from casatools import ms as mstool

    import dsa110_assets  # noqa: F401 - sets CASA's configuration

    path = sys.argv[1]
    md, me, qa, tb, ms = msmetadata(), measures(), quanta(), table(), mstool()
    md.open(path)
    answer = {
        "observatory": md.observatorynames(),
        "known": bool(me.observatory(md.observatorynames()[0])),
        "n_antennas": md.nantennas(),
        "names": md.antennanames(),
        "frame": md.phasecenter(0)["refer"],
        "phase_rad": [md.phasecenter(0)["m0"]["value"], md.phasecenter(0)["m1"]["value"]],
        "reference_rad": [md.refdir(0)["m0"]["value"], md.refdir(0)["m1"]["value"]],
        "n_spw": md.nspw(),
        "freq_hz": list(md.chanfreqs(0)),
        "corr_types": [int(x) for x in md.corrtypesforpol(0)],
        "times": list(md.timesforfield(0)),
        "exposure_s": md.exposuretime(1)["value"],
        "fields": md.fieldnames(),
    }
    md.done()
    ms.open(path)
    ms.summary()
    ms.done()

    tb.open(path + "/ANTENNA")
    positions = tb.getcol("POSITION").T
    tb.close()
    tb.open(path)
    times, uvw, ant_1, ant_2 = tb.getcol("TIME"), tb.getcol("UVW").T, tb.getcol("ANTENNA1"), tb.getcol("ANTENNA2")
    tb.close()
    worst = 0.0
    for row in [r for r in range(0, times.size, max(1, times.size // 60)) if ant_1[r] != ant_2[r]]:
        me.doframe(me.epoch("UTC", qa.quantity(times[row], "s")))
        me.doframe(me.position("ITRF", *[qa.quantity(x, "m") for x in positions[0]]))
        me.doframe(me.direction("ICRS", *[qa.quantity(x, "rad") for x in answer["phase_rad"]]))
        baseline = positions[ant_1[row]] - positions[ant_2[row]]
        theirs = me.touvw(me.baseline("ITRF", *[qa.quantity(x, "m") for x in baseline]))[1]["value"]
        worst = max(worst, float(np.abs(np.ravel(theirs) - uvw[row]).max() / max(np.linalg.norm(baseline), 100.0)))
    answer["worst_uvw"] = worst

    if len(sys.argv) > 2:
        components, im = componentlist(), imager()
        place = f"ICRS {float(sys.argv[2])}deg {float(sys.argv[3])}deg"
        components.addcomponent(dir=place, flux=10.0, fluxunit="Jy", freq="1.4GHz", shape="point")
        components.rename(path + ".cl")
        components.close()
        im.open(path, usescratch=True)
        im.ft(complist=path + ".cl")
        im.close()
        tb.open(path)
        data, model = tb.getcol("DATA"), tb.getcol("MODEL_DATA")
        tb.close()
        cross = ant_1 != ant_2
        phase = np.angle(data * np.conj(model))[..., cross]
        answer["model_jy"] = float(np.abs(model).max())
        answer["phase_rms_rad"] = float(phase.std())
        answer["conjugate_rms_rad"] = float(np.angle(data * model)[..., cross].std())
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

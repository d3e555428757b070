"""The check of the ranges: calibrated again on the data of today, and compared with the committed ones."""

from __future__ import annotations

from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.data.splits import make_splits
from autoprec.errors import DataError
from autoprec.files.trust import Named
from autoprec.gate import drift
from autoprec.gate.limits import Limits
from autoprec.gate.session import Session, recorded_source
from autoprec.gate.verdict import Check, Status


def judge_ranges(session: Session, limits: Limits) -> Check:
    """Judge whether the committed ranges still fit the data, as far as calibration data is there.

    Raises:
        DataError: the calibration data that was given is not there.
    """
    rebuilt = session.rebuilt
    if rebuilt.ranges is None:
        if session.request.calib is not None:
            _calibration_data(session)  # data that was given must be there, though this plan quantises nothing
        return drift.judge_drift([], limits.max_range_bits, "")
    try:
        data = _calibration_data(session)
    except DataError as error:
        if session.request.calib is not None:
            raise
        return Check(
            name="ranges",
            status=Status.SKIPPED,
            baseline="-",
            now="-",
            change="-",
            allowed=f"{limits.max_range_bits:g} bits",
            sentence=f"cannot judge here: {error}; give calibration data by --calib",
        )
    session.progress.stage("ranges", f"calibrated again on {data.origin}")
    found = drift.drifts(rebuilt, session.runtime.backend, data, session.recipe)
    return drift.judge_drift(found, limits.max_range_bits, data.origin)


def _calibration_data(session: Session) -> Dataset:
    """Return the calibration data that was given, or else the data that the tune calibrated on.

    The tune used either a data set of its own for calibration, or a part of its only data set.

    Raises:
        DataError: the data is not there.
    """
    committed, interface = session.baseline.evidence.data, session.rebuilt.model.interface
    if session.request.calib is not None:
        return load_data(session.request.calib, interface, session.recipe)
    if committed.get("calib") and committed.get("eval"):
        named = Named(what="calibration data", text=str(committed["calib"]), option="--calib")
        return load_data(session.request.naming.source(named, DataError), interface, session.recipe)
    whole = load_data(recorded_source(session.request, session.baseline.evidence), interface, session.recipe)
    return make_splits(None, whole, committed["seed"]).calibrate

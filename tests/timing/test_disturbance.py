"""What other programs take is seen in the kernel's own counters."""

from __future__ import annotations

import sys
import time

import pytest

from autoprec.timing.disturbance import Usage, usage


def test_a_share_of_five_percent_in_run_queues_counts() -> None:
    assert not Usage(1.0, 1.0, 0.04).disturbed
    assert Usage(1.0, 1.0, 0.06).disturbed


def test_a_system_that_does_not_tell_is_believed() -> None:
    assert not Usage(2.0, 2.0, None).since(Usage(1.0, 1.0, 0.0)).disturbed


@pytest.mark.skipif(sys.platform != "linux", reason="these are files of Linux")
def test_sleeping_is_neither_work_nor_waiting() -> None:
    before = usage()
    time.sleep(0.2)
    used = usage().since(before)

    assert used.wall_s >= 0.2
    assert used.cpu_s < 0.1

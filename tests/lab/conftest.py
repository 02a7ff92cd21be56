"""Tests in here change real hardware's settings: they run in the lab's machine and nowhere else."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def lab_machine() -> None:
    """Fail, and do not skip: whoever selects these tests elsewhere has not run them."""
    if os.environ.get("HWMGR_LAB") != "1":
        pytest.fail("this test runs in the lab only: scripts/lab pytest", pytrace=False)

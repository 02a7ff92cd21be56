"""Work that may hang is done in a child, whose answer or silence comes back; devlink's messages."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from hwmgr.deadline import within
from hwmgr.desired.patience import PatientSysfs
from hwmgr.devlink import KernelDevlink
from hwmgr.errors import NetlinkError, SysfsError, WriteHangs
from hwmgr.sysfs import Sysfs

if TYPE_CHECKING:
    from pathlib import Path


def test_the_answer_comes_back() -> None:
    assert within(10, lambda: 0) == 0
    assert within(10, lambda: errno.EBUSY) == errno.EBUSY


def test_silence_is_given_up() -> None:
    reader, writer = os.pipe()
    begun = time.monotonic()
    assert within(0.05, lambda: len(os.read(reader, 1))) is None
    assert time.monotonic() - begun < 5
    os.close(reader)
    os.close(writer)


def test_who_reads_our_output_does_not_wait_for_what_hangs() -> None:
    null = os.stat(os.devnull)
    streams = (0, 1, 2)
    assert within(10, lambda: sum(not os.path.samestat(os.fstat(s), null) for s in streams)) == 0
    assert not os.path.samestat(os.fstat(1), null)


def test_a_write_that_hangs(tmp_path: Path) -> None:
    """Opening a pipe that nobody reads blocks, as a driver does."""
    os.mkfifo(tmp_path / "sriov_numvfs")
    sysfs = PatientSysfs(Sysfs(str(tmp_path)), 0.05)
    with pytest.raises(WriteHangs, match=r"writing '4' to .*/sriov_numvfs hangs in the kernel"):
        sysfs.write("sriov_numvfs", "4")


def test_a_write_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "sriov_numvfs").write_text("0")
    sysfs = PatientSysfs(Sysfs(str(tmp_path)), 10)
    sysfs.write("sriov_numvfs", "4")
    assert sysfs.read("sriov_numvfs") == "4"
    with pytest.raises(SysfsError) as raised:
        sysfs.write("absent", "1")
    assert raised.value.errno == errno.ENOENT


def test_devlink_of_a_device_that_is_not_there() -> None:
    assert KernelDevlink().eswitch_mode("ffff:1f:1f.7") is None
    with pytest.raises(NetlinkError, match=r"set eswitch mode switchdev of pci/ffff"):
        KernelDevlink().set_eswitch_mode("ffff:1f:1f.7", "switchdev", 10)

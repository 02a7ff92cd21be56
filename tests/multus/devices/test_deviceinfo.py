"""Device information: the recorded names, the copy for an attachment, and bad files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multus.devices.deviceinfo import DeviceInfo, DeviceInfoError
from tests.multus.vectors import params

VF = "intel.com/vf"
INFO = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:01:10.0"}}


class Folder:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = DeviceInfo(str(root))
        self.path = self.info.cni_path("ns/net1", "c1", "net1")

    def said(self, value: object = INFO, device: str = "d0") -> Path:
        """Write what the device plugin says of a device."""
        path = Path(self.info.dp_path(VF, device))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return path

    def left(self, text: str = '{"type": "old"}') -> Path:
        """Leave a file of an earlier attachment."""
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o444)
        return path

    def files(self) -> list[str]:
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "devinfo")


@pytest.mark.parametrize("case", params("devinfo_paths"))
def test_recorded_paths(case: dict[str, Any]) -> None:
    path = DeviceInfo().cni_path(case["delegateName"], case["containerID"], case["ifName"])
    assert path == case["expect"]


def test_the_path_of_a_device_plugin() -> None:
    path = DeviceInfo().dp_path("intel.com/sriov", "0000:01:10.0")
    folder = "/var/run/k8s.cni.cncf.io/devinfo/dp"
    assert path == f"{folder}/intel.com-sriov-0000:01:10.0-device.json"


def test_a_life(folder: Folder) -> None:
    folder.said()
    assert folder.info.begin(VF, "d0", folder.path) is None
    assert folder.info.read(folder.path) == INFO
    assert folder.info.remove(folder.path) is None
    assert folder.info.read(folder.path) is None
    assert folder.files() == ["dp/intel.com-vf-d0-device.json"]


def test_all_may_read_it(folder: Folder) -> None:
    folder.said()
    folder.info.begin(VF, "d0", folder.path)
    assert os.stat(folder.path).st_mode & 0o777 == 0o444
    assert os.stat(os.path.dirname(folder.path)).st_mode & 0o005 == 0o005


def test_an_old_file_is_replaced(folder: Folder) -> None:
    folder.left()
    folder.said()
    assert folder.info.begin(VF, "d0", folder.path) is None
    assert folder.info.read(folder.path) == INFO


def test_a_device_plugin_that_says_nothing_leaves_nothing_old_either(folder: Folder) -> None:
    folder.left()
    assert folder.info.begin(VF, "d0", folder.path) is None
    assert folder.info.read(folder.path) is None


def test_what_the_cni_plugin_wrote_is_read(folder: Folder) -> None:
    folder.left('{"type": "memif"}')
    assert folder.info.read(folder.path) == {"type": "memif"}


BAD = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"x"',
    b"\xff",
    b"[" * 100_000,
    b'{"x":"' + b"y" * 70_000 + b'"}',
]


@pytest.mark.parametrize("content", BAD)
def test_a_bad_file_of_a_device_plugin_is_told_and_not_copied(
    folder: Folder, content: bytes
) -> None:
    path = folder.said(content)
    folder.left()
    problem = folder.info.begin(VF, "d0", folder.path)
    assert problem is not None
    assert str(path) in problem
    assert "\n" not in problem
    assert folder.info.read(folder.path) is None


@pytest.mark.parametrize("content", BAD)
def test_a_bad_file_of_an_attachment_is_an_error_with_its_path(
    folder: Folder, content: bytes
) -> None:
    folder.left()
    Path(folder.path).chmod(0o644)
    Path(folder.path).write_bytes(content)
    with pytest.raises(DeviceInfoError) as error:
        folder.info.read(folder.path)
    assert error.value.path == folder.path
    assert folder.info.remove(folder.path) is None


def test_links_pipes_and_folders_are_no_files(folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"token": "x"}')
    said = folder.said()
    said.unlink()
    said.symlink_to(secret)
    assert "d0" in (folder.info.begin(VF, "d0", folder.path) or "")
    said.unlink()
    os.mkfifo(said)
    assert "no regular file" in (folder.info.begin(VF, "d0", folder.path) or "")
    said.unlink()
    said.mkdir()
    assert "Is a directory" in (folder.info.begin(VF, "d0", folder.path) or "")
    Path(folder.path).mkdir(parents=True)
    assert folder.info.remove(folder.path)  # told, and not followed by a traceback


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "sub/x", "", ".", "..", "a\0b", "\ud800"]
)
def test_no_path_leads_out_of_the_folder(folder: Folder, tmp_path: Path, name: str) -> None:
    folder.said()
    (tmp_path / "outside").write_text("{}")
    path = os.path.join(os.path.dirname(folder.path), name)
    with pytest.raises(DeviceInfoError):
        folder.info.read(path)
    assert folder.info.begin(VF, "d0", path)
    assert folder.info.remove(path)
    assert (tmp_path / "outside").read_text() == "{}"


@given(st.text(), st.text(), st.text())
def test_any_names_give_one_plain_name_in_the_folder(first: str, second: str, third: str) -> None:
    info = DeviceInfo("/r")
    for path, folder in (
        (info.cni_path(first, second, third), "/r/cni"),
        (info.dp_path(first, second), "/r/dp"),
    ):
        assert os.path.dirname(os.path.normpath(path)) == folder
        os.fsencode(path)


def test_names_that_are_too_long_are_told(folder: Folder) -> None:
    folder.said()
    path = folder.info.cni_path("n" * 300, "c1", "net1")
    assert "name too long" in (folder.info.begin(VF, "d0", path) or "")
    with pytest.raises(DeviceInfoError, match="name too long"):
        folder.info.read(path)


def test_a_folder_that_cannot_be_made_is_told(folder: Folder) -> None:
    folder.said()
    (folder.root / "cni").write_text("a file")
    assert folder.info.begin(VF, "d0", folder.path)
    assert folder.info.read(folder.path) is None
    assert folder.info.remove(folder.path) is None

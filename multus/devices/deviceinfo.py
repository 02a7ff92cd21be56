"""Files in which device plugins, CNI plugins and we tell each other about a device.

NPWG device information specification 1.1.0: the device plugin writes ``dp/…-device.json``, which is
copied for the attachment to ``cni/…`` before its plugin runs, may be changed by that plugin, and is
read from there for the pod's network-status.
"""

from __future__ import annotations

import os
import stat

from hwmgr.errors import HwmgrError
from hwmgr.store import StateDir
from multus.jsonfields import FieldError, Json, decode

ROOT = "/var/run/k8s.cni.cncf.io/devinfo"

_LARGEST = 64 << 10  # in bytes; real ones have some hundred, and they end up in an annotation
_FOLDER_MODE = 0o755
_FILE_MODE = 0o444  # as multus-cni leaves them: for all to read, and for nobody to edit


class DeviceInfoError(ValueError):
    """A file is not device information, or is not where such files are."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class DeviceInfo:
    """The folder of device information."""

    def __init__(self, root: str = ROOT) -> None:
        self._plugins = os.path.join(root, "dp")
        self._attachments = os.path.join(root, "cni")

    def cni_path(self, delegate_name: str, container_id: str, ifname: str) -> str:
        """Return where the information of an attachment is; one plain name, whatever is given."""
        return _joined(self._attachments, f"{delegate_name}-{container_id}_{ifname}")

    def dp_path(self, resource: str, device_id: str) -> str:
        """Return where a device plugin puts its information of a device."""
        return _joined(self._plugins, f"{resource}-{device_id}-device.json")

    def begin(self, resource: str, device_id: str, path: str) -> str | None:
        """Copy what the device plugin says to ``path``, or see that nothing old is there.

        A device plugin need not say anything. Returns what went wrong, in one line: a network can
        be attached without.
        """
        try:
            name = self._name(path)
            info = _read(self.dp_path(resource, device_id))
            if info is None:
                return self.remove(path)
            os.makedirs(self._attachments, _FOLDER_MODE, exist_ok=True)
            StateDir(self._attachments).write_json(info, name)
            os.chmod(path, _FILE_MODE)
        except (DeviceInfoError, HwmgrError, OSError) as error:
            problem = self.remove(path)
            return f"{error}; {problem}" if problem else str(error)
        return None

    def read(self, path: str) -> Json | None:
        """Return the information of an attachment, None when there is none.

        Raises DeviceInfoError.
        """
        self._name(path)
        return _read(path)

    def remove(self, path: str) -> str | None:
        """Remove the information of an attachment; returns what went wrong, in one line."""
        try:
            StateDir(self._attachments).remove(self._name(path))
        except (DeviceInfoError, HwmgrError) as error:
            return str(error)
        return None

    def _name(self, path: str) -> str:
        """Return the name of a file in the folder of attachments; raises DeviceInfoError."""
        folder, name = os.path.split(path)
        if folder != self._attachments or name in ("", ".", "..") or name != _plain(name):
            raise DeviceInfoError(path, f"device information is in {self._attachments} only")
        return name


def _joined(folder: str, name: str) -> str:
    # A name with these endings is never "." or "..", so it stays in the folder.
    return os.path.join(folder, _plain(name))


def _plain(name: str) -> str:
    """Return a name that the kernel takes: JSON may hold zeros and halves of characters."""
    return name.encode("utf-8", "replace").decode().replace("/", "-").replace("\0", "-")


def _read(path: str) -> Json | None:
    """Read one file; the links of others are not followed, nor are their pipes waited for."""
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise DeviceInfoError(path, "it is no regular file")
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DeviceInfoError(path, error.strerror or str(error)) from error
    if len(data) > _LARGEST:
        raise DeviceInfoError(path, f"it has more than {_LARGEST} bytes")
    try:
        info = decode(data, "it")
    except FieldError as error:
        raise DeviceInfoError(path, str(error)) from error
    if not isinstance(info, dict):
        raise DeviceInfoError(path, "it is no JSON object")
    return info


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

"""The cluster's certificates, by openssl, and the kubeconfig files that carry them."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clusterrig.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SERVER = "https://127.0.0.1:6443"
SERVICES_FIRST = (
    "10.96.0.1"  # the API server's address as a service, in what --service-cluster-ip-range says
)
_DAYS = "30"
# 10.96.0.1: the server as a service, the first of --service-cluster-ip-range.
_SERVER_NAMES = "IP:127.0.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc"
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the API server: what its certificate says of it."""

    name: str
    group: str = ""


ADMIN = Identity("admin", "system:masters")
# The name that a pod's service account has for the server: rules for the account hold for it.
MULTUS = Identity("system:serviceaccount:kube-system:multus")


def node(name: str) -> Identity:
    """Return the identity of a kubelet, as the server's Node authorizer knows it."""
    return Identity(f"system:node:{name}", "system:nodes")


class Authority:
    """A certificate authority in a folder, made with it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.certificate, self._key = folder / "ca.crt", folder / "ca.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", _DAYS, "-subj", "/CN=hwmgr-cluster"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )
        signing = str(folder / "accounts.key")
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", signing)
        _openssl("ec", "-in", signing, "-pubout", "-out", str(folder / "accounts.pub"))
        self._sign("server", "/CN=kube-apiserver", f"subjectAltName={_SERVER_NAMES}\n")

    def kubeconfig(self, path: Path, who: Identity) -> None:
        """Write a kubeconfig with a new certificate for this user in it, as data."""
        group = f"/O={who.group}" if who.group else ""
        name = who.name.replace(":", "-")
        self._sign(name, f"{group}/CN={who.name}", "extendedKeyUsage=clientAuth\n")
        cluster = {"server": SERVER, "certificate-authority-data": _data(self.certificate)}
        user = {
            "client-certificate-data": _data(self.folder / f"{name}.crt"),
            "client-key-data": _data(self.folder / f"{name}.key"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hwmgr-cluster", "cluster": cluster}],
            "users": [{"name": who.name, "user": user}],
            "contexts": [
                {"name": "here", "context": {"cluster": "hwmgr-cluster", "user": who.name}}
            ],
            "current-context": "here",
        }
        write_private(path, config)

    def _sign(self, name: str, subject: str, extensions: str) -> None:
        key, request, made = (str(self.folder / f"{name}.{end}") for end in ("key", "csr", "crt"))
        extra = self.folder / f"{name}.ext"
        extra.write_text(extensions)
        _openssl("req", *_NEW_KEY, "-subj", subject, "-keyout", key, "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-out", made, "-days", _DAYS, "-extfile", str(extra)),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial"),
        )


def write_private(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON, which is YAML too, for this user's eyes alone."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")

"""A client of the API server for what the rig itself asks of it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clusterrig.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

    Json = dict[str, Any]

_CONFLICT = 409
_FOLDERS = {
    "CustomResourceDefinition": "customresourcedefinitions",
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
}


class Server:
    """The server that a kubeconfig of ours names."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        self._host = urlsplit(config["clusters"][0]["cluster"]["server"]).netloc
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])
        self._tls = ssl.create_default_context(cadata=authority.decode())
        user = config["users"][0]["user"]
        with tempfile.NamedTemporaryFile() as pair:  # ssl takes it from a file only
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[key]))
            pair.flush()
            self._tls.load_cert_chain(pair.name)

    def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, str]:
        """Return the status and the text of an answer; raises OSError when there is none."""
        connection = http.client.HTTPSConnection(self._host, context=self._tls, timeout=10)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Tell whether it answers and all that it starts has started."""
        try:
            return self.ask("GET", "/readyz") == (200, "ok")
        except OSError:
            return False

    def apply(self, obj: Json) -> None:
        """Make an object of a kind that manifests of ours have, unless it is there."""
        api = obj["apiVersion"]
        prefix = f"/apis/{api}" if "/" in api else f"/api/{api}"
        namespace = obj["metadata"].get("namespace")
        middle = f"/namespaces/{namespace}" if namespace else ""
        status, text = self.ask("POST", f"{prefix}{middle}/{_FOLDERS[obj['kind']]}", obj)
        if status >= 300 and status != _CONFLICT:
            raise ClusterError(f"{obj['kind']} {obj['metadata']['name']}: {status} {text}")

    def serves(self, obj: Json) -> bool:
        """Tell whether the kind that a definition defines is there already."""
        spec = obj["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        return self.ask("GET", path)[0] == 200

    def node_is_ready(self, name: str) -> bool:
        """Tell whether a node's kubelet has said that it takes pods."""
        status, text = self.ask("GET", f"/api/v1/nodes/{name}")
        if status != 200:
            return False
        conditions = json.loads(text)["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

"""32 pods at once for 7 VFs, as processes, on real hardware."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import ExitStack
from functools import partial

import pytest

from multus.cnitypes import CNIError
from tests.lab import forked
from tests.lab.cni import Pod, pod
from tests.lab.host_state import PFS, announce_vfs, differences, netdev_of, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PODS = 32


@pytest.mark.parametrize("turn", [1, 2])
def test_thirty_two_pods_for_seven_vfs(turn: int) -> None:
    pf = netdev_of(PFS[0])
    announce_vfs()
    before = snapshot()
    conf: dict[str, object] = {
        "cniVersion": "1.0.0",
        "name": "many",
        "type": "sriov",
        "if0": pf,
        "if0name": "net1",
    }
    with ExitStack() as pods:
        everyone = [pods.enter_context(pod()) for _ in range(PODS)]
        answers = _all_at_once(everyone, conf)
        got = [a["address"] for a in answers if "address" in a]
        refused = [a for a in answers if "code" in a]
        assert len(got) == 7
        assert len(set(got)) == 7
        assert len(refused) == PODS - 7
        assert {a["code"] for a in refused} == {11}
        assert all("no free VF" in str(a["msg"]) for a in refused), refused
        for one in everyone:
            assert forked.in_child(partial(_delete, one, conf)) == 0
    subprocess.run(["udevadm", "settle"], check=True)
    assert differences(before, snapshot()) == []


def _all_at_once(everyone: list[Pod], conf: dict[str, object]) -> list[dict[str, object]]:
    start = time.monotonic() + 1.0
    children = []
    for one in everyone:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            answer = _add(one, conf, start)
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    answers = []
    for pid, reader in children:
        with os.fdopen(reader) as file:
            answers.append(json.loads(file.read()))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return answers


def _add(one: Pod, conf: dict[str, object], start: float) -> dict[str, object]:
    delegate = forked.plugin(lambda _name: None)
    time.sleep(max(start - time.monotonic(), 0))
    try:
        delegate.add(forked.call("ADD", conf, one.container_id, one.path))
    except CNIError as error:
        return {"code": error.code, "msg": error.msg}
    (record,) = forked.node().journal.owned_by(one.container_id)
    return {"address": record.address}


def _delete(one: Pod, conf: dict[str, object]) -> None:
    forked.plugin(lambda _name: None).delete(forked.call("DEL", conf, one.container_id, one.path))

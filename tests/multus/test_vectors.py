"""The pure parts against what the reference recorded."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from multus import cnitypes, version
from multus.cniargs import ArgsError, K8sArgs, delegate_args, parse_args
from multus.config import NetConf, load_conf
from multus.conflist import parse_conflist
from multus.delegates import Delegate, load_delegate
from multus.jsonfields import FieldError, decode
from multus.plan import capability_args
from multus.result import ResultError, parse_result
from multus.runtimeconf import parse_runtime_config
from multus.savedstate import scratch_entry
from tests.multus.vectors import params


def delegate_facts(delegate: Delegate) -> dict[str, Any]:
    gateways = delegate.request.gateways
    return {
        "bytes": delegate.conf,
        "confListName": delegate.conf_name if delegate.is_list else "",
        "confName": delegate.conf_name,
        "confType": delegate.conf_type,
        "deviceID": delegate.device_id,
        "gateway": None if gateways is None else list(gateways),
        "guid": delegate.request.guid,
        "ifnameRequest": delegate.request.ifname,
        "ips": list(delegate.request.ips) or None,
        "isConfList": delegate.is_list,
        "macRequest": delegate.request.mac,
        "masterPlugin": delegate.master,
        "name": delegate.name,
        "resourceName": delegate.resource_name,
    }


def conf_facts(conf: NetConf) -> dict[str, Any]:
    given = conf.raw.get("logOptions")
    options = {
        "maxAge": conf.log.max_age,
        "maxSize": conf.log.max_size,
        "maxBackups": conf.log.max_backups,
        "compress": conf.log.compress,
    }
    return {
        "auxiliaryCNIChainName": conf.auxiliary_chain_name,
        "binDir": conf.bin_dir,
        "capabilities": conf.capabilities,
        "clusterNetwork": conf.cluster_network,
        "cniDir": conf.cni_dir,
        "cniVersion": conf.cni_version,
        "confDir": conf.conf_dir,
        "defaultNetworks": list(conf.default_networks) or None,
        "delegates": [delegate_facts(delegate) for delegate in conf.delegates],
        "kubeconfig": conf.kubeconfig,
        "logFile": conf.log.file,
        "logLevel": conf.log.level,
        "logOptions": options if given else None,
        "logToStderr": conf.log.to_stderr,
        "multusNamespace": conf.multus_namespace,
        "name": conf.name,
        "namespaceIsolation": conf.namespace_isolation,
        "nonIsolatedNamespaces": list(conf.global_namespaces),
        "prevResult": conf.prev_result.data if conf.prev_result else None,
        "readinessindicatorfile": conf.readiness_indicator_file,
        "retryDeleteOnError": conf.retry_delete_on_error,
        "runtimeConfig": conf.runtime_config or None,
        "systemNamespaces": list(conf.system_namespaces),
        "type": conf.type,
    }


@pytest.mark.parametrize("case", params("netconf_load"))
def test_netconf(case: dict[str, Any]) -> None:
    try:
        conf = load_conf(case["config"].encode())
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert conf_facts(conf) == case["expect"]


@pytest.mark.parametrize("case", params("conflist_parse"))
def test_conflist(case: dict[str, Any]) -> None:
    try:
        plugins = parse_conflist(decode(case["config"], "the list"))
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert case["expect"] == {
        "cniVersion": plugins.cni_version,
        "disableCheck": plugins.disable_check,
        "disableGC": plugins.disable_gc,
        "loadOnlyInlinedPlugins": plugins.load_only_inlined,
        "name": plugins.name,
        "plugins": plugins.types(),
    }


@pytest.mark.parametrize("case", params("delegate_load"))
def test_delegate(case: dict[str, Any]) -> None:
    try:
        delegate = load_delegate(
            decode(case["config"], "the delegate"),
            case["element"],
            device_id=case["deviceID"],
            resource_name=case["resourceName"],
        )
    except FieldError:
        assert not case["ok"]
        return
    assert case["ok"]
    expect = dict(case["expect"])
    if expect["gateway"] == []:
        assert delegate.request.gateways == ()
    assert delegate_facts(delegate) == expect
    entry = json.loads(json.dumps(scratch_entry(delegate)))
    recorded = case["cache_file_json"][0]
    for saved in (entry, recorded):
        saved["Bytes"] = json.loads(base64.b64decode(saved["Bytes"]))
    assert entry == recorded


@pytest.mark.parametrize("case", params("cni_names"))
def test_names(case: dict[str, Any]) -> None:
    value = case["value"]
    if case["kind"] == "ifName":
        assert (cnitypes.ifname_fault(value) is None) == case["ok"]
    else:
        assert cnitypes.valid_name(value) == case["ok"]


@pytest.mark.parametrize("case", params("version_compare"))
def test_versions(case: dict[str, Any]) -> None:
    assert version.at_least(case["a"], case["b"]) == case["gte"]


@pytest.mark.parametrize("case", params("result_convert"))
def test_convert(case: dict[str, Any]) -> None:
    result = parse_result(case["from"], case["from"]["cniVersion"])
    try:
        converted = result.convert(case["to"])
    except ResultError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert converted.data == case["expect"]


@pytest.mark.parametrize("case", params("result_create"))
def test_create(case: dict[str, Any]) -> None:
    try:
        result = parse_result(case["result"], case["version"])
    except ResultError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert result.data == case["expect"]


@pytest.mark.parametrize("case", params("runtime_conf"))
def test_runtime_conf(case: dict[str, Any]) -> None:
    delegate = load_delegate(
        case["config"],
        case["element"],
        device_id=case["dev"],
        resource_name=case["res"],
        master=case["master"],
    )
    expect = case["expect"]
    k8s = K8sArgs("podns", "pod", "123456789", "uid1")
    assert delegate_args(k8s, case["env"]) == [tuple(pair) for pair in expect["args"]]
    assert (
        capability_args(
            delegate,
            parse_runtime_config(case["rc"]),
            container_id=expect["containerID"],
            ifname=expect["ifName"],
        )
        == expect["capabilityArgs"]
    )


@pytest.mark.parametrize("case", params("k8s_args"))
def test_cni_args(case: dict[str, Any]) -> None:
    try:
        parsed = parse_args(case["cni_args"])
    except ArgsError:
        assert not case["ok"]
        return
    assert case["ok"]
    assert parsed == K8sArgs(case["namespace"], case["pod"], case["infra"], case["uid"], case["ip"])


def test_numbers_keep_their_digits() -> None:
    """lossless-numbers: Go's generic JSON makes floats of them."""
    conf = {"name": "x", "type": "t", "big": 12345678901234567890}
    assert load_delegate(conf, device_id="0000:00:00.0").conf["big"] == 12345678901234567890

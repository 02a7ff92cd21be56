#!/usr/bin/python3 -IS
"""A CNI plugin that does nothing but log its call and answer as a file beside it says."""

import json
import os
import sys

command = os.environ["CNI_COMMAND"]
ifname = os.environ.get("CNI_IFNAME", "")
name = os.path.basename(sys.argv[0])
work = os.environ["FAKE_PLUGIN_WORK"]
stdin = json.load(sys.stdin)
keys = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
with open(os.path.join(work, "calls"), "a") as log:
    env = {key: os.environ.get(key, "") for key in keys}
    log.write(json.dumps({"plugin": name, "cmd": command, "env": env, "stdin": stdin}) + "\n")

for answer in (f"{name}.{command}.{ifname}", f"{name}.{command}"):
    path = os.path.join(work, answer)
    if os.path.exists(path):
        with open(path) as file:
            wanted = json.load(file)
        out = wanted.get("out")
        if out is not None:
            sys.stdout.write(out if isinstance(out, str) else json.dumps(out))
        sys.stderr.write(wanted.get("stderr", ""))
        sys.exit(wanted.get("rc", 0))

if command == "ADD":
    version = stdin.get("cniVersion", "")
    if "prevResult" in stdin:
        result = stdin["prevResult"]
    elif version in ("", "0.1.0", "0.2.0"):
        result = {"cniVersion": version, "ip4": {"ip": "1.1.1.2/24"}, "dns": {}}
    else:
        ip = {"interface": 0, "address": "1.1.1.2/24", "gateway": "1.1.1.1"}
        if version.startswith("0."):
            ip["version"] = "4"
        netns = os.environ["CNI_NETNS"]
        interface = {"name": ifname, "mac": "02:00:00:00:00:01", "sandbox": netns}
        result = {"cniVersion": version, "interfaces": [interface], "ips": [ip]}
    sys.stdout.write(json.dumps(result))

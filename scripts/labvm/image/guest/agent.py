"""The guest's end of scripts/lab: makes the VFs ready, then runs what the host asks for.

With --systemd the machine stays as systemd has made it: no VFs, no modules.

Talks over virtio-serial ports. On lab.control both sides send one JSON object a line:

    guest: {"event": "ready"}                       VFs made, modules loaded, nothing running
    host:  {"do": "wake"}                     ->    {"event": "awake"}
    host:  {"do": "run", "argv": [...], ...}  ->    {"event": "exit", "status": N,
                                                     "stdout": bytes, "stderr": bytes,
                                                     "out": true if there are results on their disk}

What the command writes goes to lab.stdout and lab.stderr as it comes; the counts tell the host when
it has it all. Between "ready" and the first line that it sends, the host may put the whole machine
to sleep, and wake it any number of times.
"""

import fcntl
import json
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time

PORTS = "/dev/virtio-ports/lab."
CHECKOUT = "/checkout"
RESULTS = "/run/lab/out"
PARCEL_DISK = "/dev/vdb"
RESULTS_DISK = "/dev/vdc"
VFS_PER_PF = 7
PF_VENDOR_DEVICE = ("0x8086", "0x10c9")
# include/uapi/linux/pci_regs.h
PCI_COMMAND = 0x04
PCI_CAPABILITY_LIST = 0x34
PCI_CAP_EXPRESS = 0x10
PCI_CAP_MSIX = 0x11
# include/uapi/linux/random.h
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207


def main() -> None:
    control = os.open(PORTS + "control", os.O_RDWR)
    ports = {name: os.open(PORTS + name, os.O_WRONLY) for name in ("stdout", "stderr")}
    stdin = os.open(PORTS + "stdin", os.O_RDONLY)
    os.makedirs(RESULTS, exist_ok=True)
    forgotten = []
    if "--systemd" not in sys.argv:
        prepare()
        forgotten = vf_configuration()
    send(control, {"event": "ready"})
    for request in requests(control):
        if request["do"] == "wake":
            restore_vfs(forgotten)
            send(control, {"event": "awake"})
        elif request["do"] == "run":
            send(control, run(request, ports["stdout"], ports["stderr"], stdin))


def send(port: int, message: dict) -> None:
    os.write(port, json.dumps(message).encode() + b"\n")


def requests(port: int):
    pending = b""
    while True:
        chunk = os.read(port, 65536)
        if not chunk:  # nobody on the host's side yet
            time.sleep(0.05)
        pending += chunk
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            yield json.loads(line)


def prepare() -> None:
    """Bring the machine to the state that every run starts from."""
    modules = (
        "igbvf",
        "vfio-pci",
        "uio_pci_generic",
        "igb_uio",
        "netdevsim",
        "bridge",
        "veth",
        "8021q",
    )
    subprocess.run(["modprobe", "-a", *modules], check=True)
    for pf in physical_functions():
        with open(f"/sys/bus/pci/devices/{pf}/sriov_numvfs", "w") as file:
            file.write(str(VFS_PER_PF))
    subprocess.run(["udevadm", "settle", "-t", "120"], check=True)
    # Read what tests will import, so that it is in memory from the start.
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import pytest, hypothesis, yaml, pyroute2, pyudev, typer.main, rich.table",
        ],
        check=True,
    )
    subprocess.run(
        ["dpdk-devbind.py", "--status-dev", "net"], check=True, stdout=subprocess.DEVNULL
    )


def physical_functions() -> list:
    base = "/sys/bus/pci/devices"
    found = []
    for address in sorted(os.listdir(base)):
        ids = []
        for name in ("vendor", "device"):
            with open(f"{base}/{address}/{name}") as file:
                ids.append(file.read().strip())
        if tuple(ids) == PF_VENDOR_DEVICE:
            found.append(address)
    return found


def vf_configuration() -> list:
    """Return (address, offset, value) of what each VF's driver has set in its configuration space.

    QEMU's snapshot has the state of the PFs, which do the work, but not these registers of the VFs.
    It lacks the tables of their interrupts, too; those are written by the kernel when an interface
    goes up, and all are down here.
    """
    found = []
    for pf in physical_functions():
        for number in range(VFS_PER_PF):
            address = os.path.basename(os.readlink(f"/sys/bus/pci/devices/{pf}/virtfn{number}"))
            with open(f"/sys/bus/pci/devices/{address}/config", "rb") as file:
                space = file.read()
            offsets = (PCI_COMMAND, *control_registers(space))
            found += [(address, offset, space[offset : offset + 2]) for offset in offsets]
    return found


def control_registers(space: bytes):
    """Yield the offsets of the control registers in a configuration space's capabilities."""
    capability = space[PCI_CAPABILITY_LIST]
    while capability:
        if space[capability] == PCI_CAP_MSIX:
            yield capability + 2
        elif space[capability] == PCI_CAP_EXPRESS:
            yield capability + 8
        capability = space[capability + 1]


def restore_vfs(configuration: list) -> None:
    for address, offset, value in configuration:
        with open(f"/sys/bus/pci/devices/{address}/config", "r+b", buffering=0) as file:
            os.pwrite(file.fileno(), value, offset)


def run(request: dict, stdout: int, stderr: int, stdin: int) -> dict:
    """Unpack the checkout, run the command, pack what it left; return the exit event."""
    time.clock_settime(time.CLOCK_REALTIME, request["now"])
    renew_randomness(bytes.fromhex(request["seed"]))
    if request["parcel"]:
        subprocess.run(
            f"dd if={PARCEL_DISK} iflag=direct,count_bytes,fullblock bs=1M status=none"
            f" count={request['parcel']} | tar -x -C {CHECKOUT}",
            shell=True,
            check=True,
        )
    environment = {
        **os.environ,
        "PYTHONPATH": CHECKOUT,
        "LAB_OUT": RESULTS,
        "HWMGR_LAB": "1",
        **request["env"],
    }
    counts = {"stdout": 0, "stderr": 0}
    try:
        if request.get("terminal"):
            status = run_on_terminal(request, environment, stdout, stdin, counts)
        else:
            status = run_piped(request, environment, stdout, stderr, counts)
    except OSError as error:
        status = 127 if isinstance(error, FileNotFoundError) else 126
        counts["stderr"] += copy(stderr, f"lab: {request['argv'][0]}: {error.strerror}\n".encode())
    out = pack_results()
    os.sync()  # the host may end the machine as a power cut does
    return {"event": "exit", "status": status, **counts, "out": out}


def renew_randomness(seed: bytes) -> None:
    """Every wake-up has the same random state: give it one of its own."""
    with open("/dev/urandom", "wb") as device:
        fcntl.ioctl(
            device, RNDADDENTROPY, struct.pack(f"ii{len(seed)}s", len(seed) * 8, len(seed), seed)
        )
        fcntl.ioctl(device, RNDRESEEDCRNG)


def run_piped(request: dict, environment: dict, stdout: int, stderr: int, counts: dict) -> int:
    # Pipes, and not the ports themselves: a script's >/dev/stderr cannot open a port once more.
    child = subprocess.Popen(
        request["argv"],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    ended = os.pidfd_open(child.pid)
    selector = selectors.DefaultSelector()
    selector.register(ended, selectors.EVENT_READ)
    for name, pipe, port in (("stdout", child.stdout, stdout), ("stderr", child.stderr, stderr)):
        os.set_blocking(pipe.fileno(), False)
        selector.register(pipe, selectors.EVENT_READ, (name, pipe, port))
    running = True
    while running:
        for key, _ in selector.select():
            if key.data is None:
                running = False
            elif not forward(key.data, counts):
                selector.unregister(key.fileobj)
    # Children that outlive the command are not waited for; what has been written is read.
    for key in list(selector.get_map().values()):
        while key.data is not None and forward(key.data, counts):
            pass
    os.close(ended)
    status = child.wait()
    return status if status >= 0 else 128 - status


def forward(stream: tuple, counts: dict) -> bool:
    """Pass on what a pipe holds; False if that is nothing."""
    name, pipe, port = stream
    try:
        data = os.read(pipe.fileno(), 65536)
    except BlockingIOError:
        return False
    counts[name] += copy(port, data)
    return bool(data)


def copy(port: int, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(port, left) :]
    return len(data)


def run_on_terminal(request: dict, environment: dict, stdout: int, stdin: int, counts: dict) -> int:
    rows, columns, name = request["terminal"]
    environment["TERM"] = name
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.chdir(CHECKOUT)
            os.execvpe(request["argv"][0], request["argv"], environment)
        finally:
            os._exit(127)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    selector = selectors.DefaultSelector()
    selector.register(terminal, selectors.EVENT_READ)
    selector.register(stdin, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj == stdin:
                copy(terminal, os.read(stdin, 4096))
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # EIO: the last holder of the terminal's other end is gone
                data = b""
            if data:
                counts["stdout"] += copy(stdout, data)
                continue
            os.close(terminal)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF


def pack_results() -> bool:
    if not os.listdir(RESULTS):
        return False
    subprocess.run(
        f"tar -c -C {RESULTS} . | dd of={RESULTS_DISK} oflag=direct iflag=fullblock bs=1M"
        " conv=sync status=none",
        shell=True,
        check=True,
    )
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    main()

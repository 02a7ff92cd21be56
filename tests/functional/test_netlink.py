"""rtnetlink by real sockets: addresses of one link among many, and sockets that are kept."""

from __future__ import annotations

import os
import resource
import threading
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from hwmgr.errors import NetlinkError
from hwmgr.netlink import KernelNetlink
from hwmgr.netns import entered
from tests.fakes.namespaces import Namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.functional,
    pytest.mark.skipif(os.getuid() != 0, reason="needs root: namespaces and veth"),
]


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = Namespace()
    with entered(made.fd), IPRoute() as route:
        for number in range(40):
            route.link("add", kind="veth", ifname=f"v{number}", peer=f"w{number}")
            index = route.link_lookup(ifname=f"v{number}")[0]
            route.addr("add", index=index, address=f"10.9.{number}.1", prefixlen=24)
            route.addr("add", index=index, address=f"fd00:{number:x}::1", prefixlen=64)
            route.link("set", index=index, state="up")
    yield made
    made.close()


def test_addresses_are_those_of_the_link_and_of_no_other(space: Namespace) -> None:
    with KernelNetlink().links(space.fd) as links:
        everything = links.addresses()
        for netdev in links.list():
            expected = everything.get(netdev.index, ())
            found = links.get(netdev.index)
            assert found is not None
            assert found.addresses == expected
        assert len(everything) == 40
        assert len(everything[max(everything)]) == 2


def test_a_link_that_is_gone_is_none(space: Namespace) -> None:
    with KernelNetlink().links(space.fd) as links:
        assert links.get(99_999) is None
        assert links.find("v999") is None


def _interrupt(_opened: object) -> None:
    raise KeyboardInterrupt


def test_a_warm_thread_keeps_one_socket_and_still_sees_the_right_namespace(
    space: Namespace,
) -> None:
    other = Namespace()
    problems: list[str] = []

    def work() -> None:
        netlink = KernelNetlink(warm=True)
        with entered(space.fd):
            with netlink.links() as links:
                kept = links._route  # type: ignore[attr-defined]
                assert links.find("v7") is not None
            for _ in range(20):
                with netlink.links() as links, netlink.links() as again:
                    assert links._route is kept is again._route  # type: ignore[attr-defined]
                    assert links.find("v7") is not None
            # A kernel's refusal is no reason for a new one, a broken socket is.
            with pytest.raises(NetlinkError), netlink.links() as links:
                links.set_mtu(99_999, 1500)
            with entered(other.fd), netlink.links() as links:
                assert links.find("v7") is None
            with netlink.links(other.fd) as links:
                assert links.find("v7") is None
            with netlink.links() as links:
                assert links._route is kept  # type: ignore[attr-defined]
            with pytest.raises(KeyboardInterrupt), netlink.links() as links:
                _interrupt(links._route)  # type: ignore[attr-defined]
            with netlink.links() as links:
                assert links._route is not kept  # type: ignore[attr-defined]
                assert links.find("v7") is not None
                links._route.close()  # type: ignore[attr-defined]

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            problems.append(repr(error))

    threads = [threading.Thread(target=guarded) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert problems == []


def test_a_fork_does_not_use_its_parents_socket(space: Namespace) -> None:
    netlink = KernelNetlink(warm=True)
    with entered(space.fd):
        with netlink.links() as links:
            kept = links._route  # type: ignore[attr-defined]
        pid = os.fork()
        if not pid:
            with netlink.links() as links:
                fine = links._route is not kept  # type: ignore[attr-defined]
                fine = fine and links.find("v3") is not None
            os._exit(0 if fine else 1)
        assert os.waitpid(pid, 0)[1] == 0
        with netlink.links() as links:
            assert links._route is kept  # type: ignore[attr-defined]
            assert links.find("v3") is not None
    kept.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    yield
    for fd in kept:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_carrier_is_waited_for_with_many_descriptors_open(space: Namespace) -> None:
    with KernelNetlink().links(space.fd) as links, entered(space.fd), IPRoute() as route:
        index, peer = (route.link_lookup(ifname=name)[0] for name in ("v0", "w0"))
        assert not links.wait_running(index, 0.05)
        later = threading.Timer(0.2, lambda: route.link("set", index=peer, state="up"))
        later.start()
        assert links.wait_running(index, 10)
        later.join()

"""The C shim and its twin say the same, whatever they are given."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.shim.rig import Done, FakeDaemon

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.shim.rig import Shim

KEYS = ["socket", "thin", "spool", "version", "connect_ms", "answer_ms", "x", "", "#", " # "]
VALUES = [
    "",
    "/",
    "/nowhere",
    "nowhere",
    "20000",
    "020000 ",
    "-1",
    "1_0",
    "\u0663",
    '"\\',
    "\x0b1",
    "\t/a\r",
]
LINES = st.lists(
    st.builds(
        lambda key, equals, value, end: f"{key}{equals}{value}{end}",
        st.sampled_from(KEYS),
        st.sampled_from(["=", "==", " = ", ""]),
        st.sampled_from(VALUES) | st.text(st.characters(exclude_characters="\0"), max_size=5),
        st.sampled_from(["\n", "\n", "\r\n", "\n\n", "\x0c\n", ""]),
    ),
    max_size=3,
)
NAMES = st.sampled_from(
    ["c1", "", ".", "..", "a b", "a/b", "a\x0bb", "\u00e4", "\u00e0", "\x7f", "x" * 16, "-"]
)
ANSWERS = st.binary(max_size=3) | st.builds(
    lambda head, lengths, body: b"\x8eCNI\x01" + head + lengths + body,
    st.sampled_from([b"\0\0\0", b"\7\0\0", b"\0\0\1"]),
    st.sampled_from([b"\0\0\0\2\0\0\0\1", bytes(8), b"\xff" * 8]),
    st.binary(max_size=4),
)


def outcome(shim: Shim, text: str, env: dict[str, str], answer: bytes | None) -> Sequence[object]:
    """Do a call; returns all that is to be equal, without the folder's name."""
    # The last of two lines counts: nothing is written elsewhere, and nothing waits.
    ends = f"spool={shim.spool}\nconnect_ms=0\n"
    shim.conf.write_bytes(f"socket={shim.socket}\n{text}\n{ends}".encode())
    command = env["CNI_COMMAND"]
    if answer is None:
        done = shim.run(command, env=env)
    else:
        with FakeDaemon(shim.socket, answer):
            done = shim.run(command, env=env)
    kept = shim.spooled()
    for name in os.listdir(shim.spool) if kept else []:
        (shim.spool / name).unlink()
    place = os.fsencode(shim.folder)
    plain = Done(done.status, done.stdout.replace(place, b""), done.stderr.replace(place, b""))
    return plain, kept


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=LINES,
    command=st.sampled_from(["ADD", "DEL", "DEL", "STATUS", "VERSION", "\u00e4"]),
    container=NAMES,
    ifname=NAMES,
    answer=st.none() | ANSWERS,
)
def test_both_say_the_same(
    both: tuple[Shim, Shim],
    lines: list[str],
    command: str,
    container: str,
    ifname: str,
    answer: bytes | None,
) -> None:
    env = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": ifname}
    c, python = (outcome(shim, "".join(lines), env, answer) for shim in both)
    assert c == python

"""Calls and answers as bytes: what goes in comes out, and nothing else is taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwmgr import frames
from hwmgr.frames import Answer, Call, FrameError

NAMES = st.text(st.characters(exclude_characters="=\0", codec="utf-8"), min_size=1, max_size=8)
VALUES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)


@given(st.sampled_from(["multus", "sriov"]), st.dictionaries(NAMES, VALUES), st.binary(max_size=99))
def test_a_call_comes_back_as_it_was(program: str, env: dict[str, str], stdin: bytes) -> None:
    call = Call(program, env, stdin)
    assert frames.decode_call(frames.encode_call(call)) == call


@given(st.integers(0, 255), st.binary(max_size=99), st.binary(max_size=99))
def test_an_answer_comes_back_as_it_was(status: int, stdout: bytes, stderr: bytes) -> None:
    answer = Answer(status, stdout, stderr)
    assert frames.decode_answer(frames.encode_answer(answer)) == answer


def test_the_bytes_of_a_call_are_those_that_the_shims_send() -> None:
    data = frames.encode_call(Call("sriov", {"A": "b"}, b"{}"))
    assert data == b"\x8eCNI\x01\x02\0\0\0\0\0\x04\0\0\0\x02A=b\0{}"


def test_bytes_that_are_no_text_survive() -> None:
    data = b"\x8eCNI\x01\x01\0\0\0\0\0\x05\0\0\0\0A=\xff\xfe\0"
    assert frames.encode_call(frames.decode_call(data)) == data


def test_of_two_variables_of_one_name_the_first_counts_and_nonsense_is_dropped() -> None:
    env = b"A=1\0A=2\0=x\0novalue\0\0"
    data = b"\x8eCNI\x01\x01\0\0" + len(env).to_bytes(4, "big") + bytes(4) + env
    assert frames.decode_call(data).env == {"A": "1"}


@given(st.binary(max_size=64))
def test_other_bytes_are_refused_by_name(data: bytes) -> None:
    for decode in (frames.decode_call, frames.decode_answer):
        with pytest.raises(FrameError):
            decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x8eCNI\x02\x01\0\0\0\0\0\0\0\0\0\0",
        b"\x8eCNI\x01\x09\0\0\0\0\0\0\0\0\0\0",
        b"\x8eCNI\x01\x01\0\0\xff\xff\xff\xff\0\0\0\0",
        b"\x8eCNI\x01\x01\0\0\0\0\0\x03\0\0\0\0A=b",
        b"\x8eCNI\x01\x01\0\0\0\0\0\0\0\0\0\0more",
    ],
)
def test_versions_programs_and_lengths_are_checked(data: bytes) -> None:
    with pytest.raises(FrameError):
        frames.decode_call(data)


def test_only_programs_with_a_number_can_be_called() -> None:
    with pytest.raises(FrameError, match="none of multus, sriov"):
        frames.encode_call(Call("bridge", {}, b""))


HEADERS = st.builds(
    lambda version, number, zero, first, second: (
        b"\x8eCNI"
        + bytes((version, number))
        + b"".join(
            value.to_bytes(size, "big") for value, size in ((zero, 2), (first, 4), (second, 4))
        )
    ),
    st.sampled_from([0, 1, 1, 1, 2]),
    st.sampled_from([0, 1, 2, 3, 255]),
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 40) | st.integers(0, 0xFFFFFFFF),
    st.integers(0, 40) | st.integers(0, 0xFFFFFFFF),
)


@given(HEADERS, st.lists(st.sampled_from([b"A=b", b"=", b"\0", b"\xff", b"CNI_COMMAND=DEL"])))
def test_what_begins_as_a_call_is_one_or_is_refused(header: bytes, parts: list[bytes]) -> None:
    """Nothing but FrameError comes of it, and what is taken is all that was there."""
    data = header + b"".join(parts)
    try:
        call = frames.decode_call(data)
    except FrameError:
        return
    again = frames.encode_call(call)
    assert frames.decode_call(again) == call
    assert data.endswith(call.stdin)


@given(HEADERS, st.binary(max_size=40))
def test_what_begins_as_an_answer_is_one_or_is_refused(header: bytes, body: bytes) -> None:
    try:
        answer = frames.decode_answer(header + body)
    except FrameError:
        return
    assert answer.stdout + answer.stderr == body
    assert frames.encode_answer(answer) == header + body

"""Take the ELF kernel out of a compressed x86 kernel image.

QEMU starts an ELF kernel by its PVH entry at once; the emulated processor would need seconds to
unpack the image itself. Where the payload lies is in the image's header
(Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
"""

import lzma
import struct
import subprocess
import sys
from pathlib import Path


def extract(image: bytes) -> bytes:
    """Return the ELF kernel inside image; raise ValueError for an unknown compression."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        # Four bytes with the unpacked size follow the stream: a decompressor object ignores them.
        kernel = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        kernel = subprocess.run(
            ["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True
        ).stdout
    else:
        msg = f"unknown compression of the kernel: {payload[:6].hex()}"
        raise ValueError(msg)
    if not kernel.startswith(b"\x7fELF"):
        msg = "what was unpacked is no ELF file"
        raise ValueError(msg)
    return kernel


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(extract(Path(sys.argv[1]).read_bytes()))

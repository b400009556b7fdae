"""Lines of a store's manifest, written by hand."""

from __future__ import annotations

__all__ = ["manifest_line"]


def manifest_line(version: int, body: str) -> str:
    """A line with its checksum, CRC-32C of version and body, as docs/formats/store.md says."""
    return f"aios-store {version} {_crc32c(f'{version}{body}'.encode()):08x} {body}\n"


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF

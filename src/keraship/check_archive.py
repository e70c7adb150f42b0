"""Is a zip archive (.keras, .npz) what it claims to be? Looks at its directory; unpacks nothing."""

from __future__ import annotations

import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from keraship.danger import Finding, danger

BOMB_RATIO = 100
BOMB_BYTES = 64 << 20
"""A member is a bomb that unpacks to more than this many bytes, and to more than BOMB_RATIO times what is stored.

Keras stores its members uncompressed; DEFLATE can't pass 1032:1.
"""

_ENCRYPTED = 0x1
_DRIVE = re.compile("[A-Za-z]:")
_REFUSE = "do not unpack it; get the file anew from whom you trust"


def check_archive(archive: zipfile.ZipFile) -> Iterator[Finding]:
    """Paths that lead out, links, doubled names, members that are encrypted, that claim too much, or that overlap."""
    members = archive.infolist()
    for member in members:
        if leads_out(member.filename):
            yield danger("path", "", f"it holds the path {member.filename!r}, which leads out of the archive", _REFUSE)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield danger("link", member.filename, "it is a link or a device and not a file", _REFUSE)
        if member.flag_bits & _ENCRYPTED:
            yield danger("encrypted", member.filename, "it is encrypted, so nobody can check it", "save it without")
        if is_bomb(member):
            sizes = f"{member.compress_size} bytes that claim to unpack to {member.file_size}"
            yield danger("bomb", member.filename, f"it is a decompression bomb: {sizes}", _REFUSE)
    for name, count in Counter(member.filename for member in members).items():
        if count > 1:
            yield danger("duplicate", name, f"it stands {count} times in the archive; readers differ on which", _REFUSE)
    if archive.fp is not None and sum(member.compress_size for member in members) > _size(archive):
        yield danger("bomb", "", "its members overlap: together they are larger than the file", _REFUSE)


def leads_out(name: str) -> bool:
    """Whether a path, taken from a folder, may lead out of it."""
    parts = PurePosixPath(name).parts
    return name.startswith("/") or ".." in parts or "\\" in name or bool(_DRIVE.match(name)) or "\0" in name


def is_bomb(member: zipfile.ZipInfo) -> bool:
    """Whether a member claims to unpack to far more than is stored."""
    return member.file_size > max(BOMB_BYTES, BOMB_RATIO * member.compress_size)


def _size(archive: zipfile.ZipFile) -> int:
    file = archive.fp
    if file is None:
        return 0
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(position)
    return size

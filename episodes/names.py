"""Names of files and images, from wherever they come: compared, shown and written in one spelling."""

import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, count
from unicodedata import normalize

LONGEST_NAME = 240
"""Bytes of a file's name; usual file systems take 255, and an ending is still to come."""


def composed(name: str) -> str:
    r"""Spell a name in one Unicode form (NFC), in which names are compared: macOS may write one letter as two.

    >>> composed("u\N{COMBINING DIAERESIS}") == "\N{LATIN SMALL LETTER U WITH DIAERESIS}"
    True
    """
    return normalize("NFC", name)


def printable(text: str) -> str:
    r"""Write as `%` and their bytes what a text cannot show: control characters, and bytes that are not UTF-8.

    A file's name may hold any of them. Escaped, it commands no terminal, and can be written to any file and be a name.

    >>> printable("scan\x1b[31m.png"), printable("M\udcfcller.png")
    ('scan%1B[31m.png', 'M%FCller.png')
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _percent(one) for one in text)


def _percent(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # as Python reads one that is not UTF-8
    content = character.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in content)


def numbered(name: str) -> Iterator[str]:
    """Yield the name, then the name with a number from 2 on: the first that is free is taken."""
    return chain([name], (f"{name}-{number}" for number in count(2)))


def short_name(name: str, most: int = LONGEST_NAME) -> str:
    """Cut a name that has more bytes than that; a hash in place of the rest keeps names apart that begin alike.

    >>> short_name("scan_01"), short_name(30 * "scan_01", 20)
    ('scan_01', 'scan_01scan-fd21f54e')
    """
    content = os.fsencode(name)
    if len(content) <= most:
        return name
    return f"{content[: most - 9].decode(errors='ignore')}-{sha256(content).hexdigest()[:8]}"

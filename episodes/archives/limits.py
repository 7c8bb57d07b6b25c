"""How much an archive may hold: a file of a megabyte can unpack to a terabyte."""

from dataclasses import dataclass, field
from pathlib import Path

from episodes.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold. The defaults are far above any dataset of breast ultrasound.

    Attributes:
        files: how many files and folders.
        size: bytes of all files, unpacked.
        ratio: how many times larger than the archive the files may be, where they are larger than `harmless`.
        harmless: bytes that are never too many: black masks saved without compression pack to a thousandth.
    """

    files: int = 500_000
    size: int = 200 << 30
    ratio: int = 200
    harmless: int = 2 << 30

    def allowed(self, archive: Path) -> int:
        """How many bytes this archive may unpack to.

        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes(10)), file.flush()
        ...     Limits(size=5000, ratio=20, harmless=100).allowed(Path(file.name))
        200
        """
        return min(self.size, max(self.harmless, self.ratio * archive.stat().st_size))


@dataclass(slots=True)
class Budget:
    """What is left of the limits while an archive's headers are read."""

    archive: Path
    limits: Limits
    files: int = 0
    size: int = 0
    allowed: int = field(init=False)

    def __post_init__(self) -> None:
        self.allowed = self.limits.allowed(self.archive)

    def spend(self, size: int) -> None:
        """Count one more file or folder of this many bytes.

        Raises:
            DatasetError: if it is one too many, or the bytes are.
        """
        self.files += 1
        self.size += size
        if self.files > self.limits.files:
            raise DatasetError(f"{self.archive}: holds more than {self.limits.files} files; {_ADVICE}")
        if self.size > self.allowed:
            raise too_large(self.archive, self.allowed)


_ADVICE = "unpack it by other means if you trust it"


def too_large(archive: Path, allowed: int) -> DatasetError:
    """The error for an archive whose content exceeds what is allowed, in bytes."""
    size = archive.stat().st_size
    return DatasetError(f"{archive}: {size} bytes unpack to more than {allowed}, the limit for its size; {_ADVICE}")

"""What one user of the page may ask for, so that none can fill the memory or the disk."""

from dataclasses import asdict, dataclass

from episodes.errors import UserError

MEBIBYTE = 2**20


class RefusedError(UserError):
    """A request that the page's server does not serve; the message is shown beside what caused it.

    Args:
        message: one line in plain words.
        code: the HTTP status of the answer.
    """

    def __init__(self, message: str, code: int = 422) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds.

    Attributes:
        file_bytes: of one uploaded file.
        session_bytes: of all files of one session.
        supports: annotated images of a session.
        queries: images to segment of a session.
        sessions: pages open at one time.
        idle_seconds: after which an unused session ends.
    """

    file_bytes: int = 32 * MEBIBYTE
    session_bytes: int = 1024 * MEBIBYTE
    supports: int = 5
    queries: int = 200
    sessions: int = 8
    idle_seconds: float = 30 * 60

    def as_json(self) -> dict[str, float]:
        """The same as JSON takes it."""
        return asdict(self)

    def check_file(self, size: int, name: str) -> None:
        """Refuse a file that is too large.

        Raises:
            RefusedError: says the limit.
        """
        if size > self.file_bytes:
            raise RefusedError(f"{name}: larger than {self.file_bytes // MEBIBYTE} MB; shrink the image", 413)

    def check_session(self, size: int) -> None:
        """Refuse what makes a session's files too large together.

        Raises:
            RefusedError: says the limit.
        """
        if size > self.session_bytes:
            limit = self.session_bytes // MEBIBYTE
            raise RefusedError(f"all files together exceed {limit} MB; remove some images first", 413)

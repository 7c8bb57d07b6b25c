"""Reading an image with all that is known of it, and telling whether that has changed."""

from hashlib import sha256
from pathlib import Path

from episodes.decoding import read_image
from episodes.errors import DatasetError
from episodes.files import file_hash
from fewshot.prediction.inputs import Input
from fewshot.prediction.results import Case
from fewshot.prediction.spacings import Spacings
from fewshot.prediction.truths import Truths, read_truth


class CaseReader:
    """Reads images one by one.

    Args:
        spacings: of their pixels.
        truths: their known masks; empty for none.
    """

    def __init__(self, spacings: Spacings, truths: Truths) -> None:
        self.spacings = spacings
        self.truths = truths
        self._hashed: tuple[Path, str] | None = None

    def hash(self, one: Input) -> str:
        """A hash of all that the results of an image depend on beside the model: the files, and the spacing.

        Raises:
            DatasetError: if a file cannot be read.
        """
        files = [self._file_hash(one.path), *(_hash(path) for path in self.truths.get(one.key, ()))]
        return sha256(repr((files, one.frame, self.spacings.of(one))).encode()).hexdigest()[:16]

    def read(self, one: Input) -> Case:
        """The pixels of an image, and its mask where one is known.

        Raises:
            DatasetError: if a file cannot be read.
        """
        hashed = self.hash(one)
        image = read_image(one.path, one.frame)
        masks = self.truths.get(one.key)
        truth = None if masks is None else read_truth(masks, (image.shape[0], image.shape[1]))
        return Case(one, image, self.spacings.of(one), truth, hashed)

    def _file_hash(self, path: Path) -> str:
        """The hash of a file; kept for its other frames, which come next."""
        if self._hashed is None or self._hashed[0] != path:
            self._hashed = path, _hash(path)
        return self._hashed[1]


def _hash(path: Path) -> str:
    try:
        return file_hash(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); see that you may read it") from error

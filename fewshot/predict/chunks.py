"""Images predicted chunk by chunk, while others are read and written in threads."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import cache, partial

from episodes.errors import DatasetError
from episodes.images.decoding import stretch_image
from episodes.parallel import ahead_in_threads
from episodes.sampling.episode import Support
from fewshot.inference.inputs import Input
from fewshot.inference.loading import LoadedMethod
from fewshot.inference.predictor import ImagePrediction
from fewshot.inference.support import image_hashes, support_hashes
from fewshot.predict.cases import ImageReader, ReadImage
from fewshot.predict.results import ResultFolder

WRITERS = 2  # threads that encode and write pictures


class ChunkPrediction:
    """Predicts images chunk by chunk into a folder of results.

    The model adapts to its support set when the first image is to be segmented; support images are not segmented again.
    At once are predicted `batch_size` images, or what suits the device.
    """

    def __init__(
        self,
        reader: ImageReader,
        folder: ResultFolder,
        model: LoadedMethod,
        support: Support | None,
        batch_size: int | None,
    ) -> None:
        self.reader, self.folder, self.size = reader, folder, (model.image_size, model.image_size)
        self.failed: dict[Input, str] = {}  # images that could not be read, each with the reason
        self.of_support: list[Input] = []  # images that are support images
        self._known = frozenset() if support is None else frozenset(support_hashes(support))
        self._predictor = cache(partial(model.adapt, support, batch_size=batch_size))

    def over(self, inputs: Sequence[Input], size: int, progress: Callable[[int], None]) -> None:
        """Segment those images whose results are not there yet, in chunks of this size.

        While a chunk is segmented, the next is read and pictures of the one before are written; what goes wrong there
        is raised here. Rows are written in the order of the images, each after its pictures.

        Args:
            inputs: all images.
            size: how many are segmented together.
            progress: is told, after each chunk, how many images are segmented.

        Raises:
            StorageError: if results cannot be written.
            NotEnoughMemoryError: if memory does not suffice for a single image.
        """
        chunks = [inputs[start : start + size] for start in range(0, len(inputs), size)]
        found = self._segment(ahead_in_threads(self._read, chunks, threads=1, ahead=1), size, progress)
        for row in ahead_in_threads(self.folder.write, found, threads=WRITERS, ahead=size):
            self.folder.add(row)

    def _segment(
        self, chunks: Iterable[tuple[Sequence[ReadImage], Set[Input]]], size: int, progress: Callable[[int], None]
    ) -> Iterator[tuple[ReadImage, ImagePrediction]]:
        """Yield the images of each chunk with what is predicted of them, but for those whose results are there."""
        for done, (images, there) in enumerate(chunks, start=1):
            found = self._predictor().predict_images([one.image for one in images]) if images else iter(())
            for one, prediction in zip(images, found, strict=True):
                if one.input not in there:
                    yield one, prediction
            progress(done * size)

    def _read(self, chunk: Sequence[Input]) -> tuple[Sequence[ReadImage], Set[Input]]:
        """Read the images of a chunk, and say of which the results are there; of all of them, none is read.

        An image's probabilities depend, by rounding, on those beside it. So the whole chunk is segmented even where a
        part of it is there: a prediction that was interrupted ends with the same bytes as one that was not.
        """
        there = {one for one in chunk if self.folder.has(one, self.reader)}
        wanted = list(self._readable(one for one in chunk if one not in there))
        if not wanted:
            return (), there
        beside = self._readable(one for one in chunk if one in there)
        return sorted([*wanted, *beside], key=lambda one: one.input.key), there

    def _readable(self, inputs: Iterable[Input]) -> Iterator[ReadImage]:
        """Read the images that can be read and are no support images."""
        for one in inputs:
            try:
                image = self.reader.read(one)
            except DatasetError as error:
                self.failed[one] = str(error)
                continue
            if self._known and image_hashes(stretch_image(image.image, self.size)[None])[0] in self._known:
                self.of_support.append(one)
            else:
                yield image

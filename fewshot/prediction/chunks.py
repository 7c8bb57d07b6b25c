"""Segmenting images a few at a time: read, ask, write."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from episodes.errors import DatasetError
from fewshot.data.images import resized_image
from fewshot.data.support_folder import image_hashes
from fewshot.prediction.folder import ResultFolder
from fewshot.prediction.inputs import Input
from fewshot.prediction.reading import CaseReader
from fewshot.prediction.results import Case
from fewshot.prediction.segmenter import Segmenter


@dataclass
class Chunks:
    """What segmenting needs, and what could not be segmented.

    Attributes:
        reader: reads the images.
        folder: takes the results.
        adapt: gives the adapted method; asked once, when the first image is to be segmented.
        image_size: working size.
        support: hashes of the support images, which are not segmented again.
        failed: images that could not be read, each with the reason.
        of_support: images that are support images.
    """

    reader: CaseReader
    folder: ResultFolder
    adapt: Callable[[], Segmenter]
    image_size: int
    support: frozenset[str] = frozenset()
    failed: dict[Input, str] = field(default_factory=dict)
    of_support: list[Input] = field(default_factory=list)

    @cached_property
    def segmenter(self) -> Segmenter:
        """The adapted method."""
        return self.adapt()

    def segment(self, chunk: Sequence[Input]) -> None:
        """Segment those images whose results are not there yet.

        An image's probabilities depend, by rounding, on those beside it. So the whole chunk is segmented even where a
        part of it is there: a prediction that was interrupted ends with the same bytes as one that was not.

        Raises:
            StorageError: if results cannot be written.
            NotEnoughMemoryError: if memory does not suffice for a single image.
        """
        there = {one for one in chunk if self.folder.has(one, self.reader)}
        wanted = list(self._cases(one for one in chunk if one not in there))
        if not wanted:
            return
        beside = self._cases(one for one in chunk if one in there)
        cases = sorted([*wanted, *beside], key=lambda case: case.input.key)
        for case, found in zip(cases, self.segmenter.predict_grey([case.image for case in cases]), strict=True):
            if case.input not in there:
                self.folder.add(case, found)

    def _cases(self, inputs: Iterable[Input]) -> Iterator[Case]:
        """The images that can be read and are no support images."""
        for one in inputs:
            try:
                case = self.reader.read(one)
            except DatasetError as error:
                self.failed[one] = str(error)
                continue
            if self._shows_support(case):
                self.of_support.append(one)
            else:
                yield case

    def _shows_support(self, case: Case) -> bool:
        return bool(self.support) and image_hashes(resized_image(case.image, self.image_size)[None])[0] in self.support

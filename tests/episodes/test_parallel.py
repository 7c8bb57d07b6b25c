"""Work on items that come one by one, in threads."""

from collections.abc import Iterator
from threading import Event

import pytest

from episodes.parallel import ahead_in_threads


def test_at_most_so_many_items_are_drawn_beyond_the_results() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        while drawn < 100:
            drawn += 1
            yield drawn

    for place, result in enumerate(ahead_in_threads(lambda item: item * item, items(), threads=2, ahead=3), start=1):
        assert result == place * place
        assert drawn == min(100, place + 3)
    assert drawn == 100


def test_the_next_is_worked_on_while_a_result_is_used() -> None:
    second = Event()
    results = ahead_in_threads(lambda item: second.set() if item else None, [0, 1], threads=1, ahead=1)
    next(results)
    assert second.wait(10)


def test_errors_of_the_work_and_of_the_items_are_raised_where_results_are_used() -> None:
    def items() -> Iterator[int]:
        yield from (2, 1)
        raise KeyError("no more")

    assert list(zip(range(1), ahead_in_threads(lambda item: 2 // item, items(), threads=2, ahead=0), strict=False))
    with pytest.raises(KeyError, match="no more"):
        list(ahead_in_threads(lambda item: 2 // item, items(), threads=2, ahead=2))
    with pytest.raises(ZeroDivisionError):
        list(ahead_in_threads(lambda item: 2 // item, (1, 0, 2), threads=2, ahead=2))

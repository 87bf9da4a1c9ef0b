"""Pages of a listing: read ahead, in order, and by the caller where no reader is free."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from skytally.adapters.documents_search import listing
from skytally.core.errors import Unavailable

PAGES = [[1, 2], [3, 4], [5]]


@pytest.fixture(autouse=True)
def one_reader(monkeypatch):
    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(listing, "READERS", pool)
        yield pool


def pages(begun, fails_at=None):
    """Return what reads a page, and notes which it began to read and in which thread."""

    def page(after):
        at = after.get("search_after", 0)
        begun.append((at, threading.get_ident()))
        if at == fails_at:
            raise Unavailable("away")
        return PAGES[at], {"search_after": at + 1} if at + 1 < len(PAGES) else {}

    return page


def test_all_pages_come_in_order_and_the_next_is_read_meanwhile(one_reader):
    begun = []
    hits = listing._read_ahead(pages(begun))
    assert next(hits) == 1
    wait([one_reader.submit(int)])
    assert [at for at, _ in begun] == [0, 1]
    assert list(hits) == [2, 3, 4, 5]
    assert [at for at, _ in begun] == [0, 1, 2]


def test_a_busy_reader_is_not_waited_for(one_reader):
    begun, is_over = [], threading.Event()
    one_reader.submit(is_over.wait, 60)
    try:
        assert list(listing._read_ahead(pages(begun))) == [1, 2, 3, 4, 5]
    finally:
        is_over.set()
    assert {thread for _, thread in begun} == {threading.get_ident()}


def test_a_page_that_fails_is_raised_behind_the_pages_before_it():
    hits = listing._read_ahead(pages([], fails_at=1))
    assert [next(hits), next(hits)] == [1, 2]
    with pytest.raises(Unavailable):
        next(hits)


def test_no_page_is_being_read_once_a_listing_is_given_up(one_reader):
    begun, is_open, ended = [], threading.Event(), threading.Event()

    def page(after):
        read = pages(begun)(after)
        if after:
            is_open.wait(60)
            ended.set()
        return read

    hits = listing._read_ahead(page)
    next(hits)
    threading.Timer(0.2, is_open.set).start()
    hits.close()
    assert ended.is_set() or len(begun) == 1

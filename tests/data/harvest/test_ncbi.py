"""The contact of NCBI's client sets the request rate, and does not show its key."""

import pytest

from raysearch.data.harvest.ncbi import Contact
from support.harvest_services import API_KEY


def test_a_key_allows_ten_requests_per_second_and_is_not_shown() -> None:
    assert Contact.checked("me@uni.edu", "").min_interval_s == pytest.approx(1 / 3)
    assert Contact.checked("me@uni.edu", API_KEY).min_interval_s == pytest.approx(1 / 10)
    assert API_KEY not in repr(Contact.checked("me@uni.edu", API_KEY))

"""The sizes models are converted at are told apart from all others."""

from __future__ import annotations

import pytest

from convert.errors import RouteError
from convert.routes._free_sizes import BATCH_PRIMES, OTHER_PRIMES, recognisable_sizes
from convert.sources._measure import OTHER_SIZES


def test_every_free_dimension_gets_a_prime_of_its_own():
    sizes = recognisable_sizes(("batch", "sequence", "frames"), {1, 8, 32})
    assert sizes == {"batch": BATCH_PRIMES[0], "sequence": OTHER_PRIMES[0], "frames": OTHER_PRIMES[1]}


def test_a_prime_that_divides_a_size_of_the_model_is_passed_over():
    assert recognisable_sizes(("batch", "sequence"), {74, 23}) == {"batch": 41, "sequence": 19}


def test_the_first_sizes_lie_where_the_model_was_seen_to_run():
    assert min(OTHER_SIZES) <= OTHER_PRIMES[0] <= max(OTHER_SIZES)


def test_a_model_that_has_them_all_is_refused():
    with pytest.raises(RouteError, match="no size of batch"):
        recognisable_sizes(("batch",), BATCH_PRIMES)

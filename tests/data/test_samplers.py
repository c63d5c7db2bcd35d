"""Properties of the batches: P x K, coverage, determinism, and processes that share an epoch."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch.utils.data import DataLoader

from dcsnas.config.errors import UserError
from dcsnas.data.samplers import EpochShuffle, PKSampler


def pk(labels, p, k, *, seed=0, epoch=0, rank=0, world_size=1) -> PKSampler:
    sampler = PKSampler(
        labels,
        identities_per_batch=p,
        images_per_identity=k,
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    sampler.set_epoch(epoch)
    return sampler


identity_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(identity_sizes, st.data())
def test_every_batch_has_p_identities_with_k_images_each(sizes, data):
    p = data.draw(st.integers(1, len(sizes)))
    k = data.draw(st.integers(1, 6))
    labels = np.repeat(np.arange(len(sizes)), sizes)[::-1].tolist()
    sampler = pk(labels, p, k, epoch=data.draw(st.integers(0, 3)))
    batches = list(sampler)
    assert len(batches) == len(sampler) >= 1
    for batch in batches:
        by_identity = {}
        for index in batch:
            by_identity.setdefault(labels[index], []).append(index)
        assert len(by_identity) == p
        for identity, indices in by_identity.items():
            assert len(indices) == k
            repeats = Counter(indices).values()
            assert max(repeats) == max(1, -(-k // sizes[identity]))


@settings(deadline=None, max_examples=60)
@given(identity_sizes, st.data())
def test_places_follow_the_stated_rule(sizes, data):
    p = data.draw(st.integers(1, len(sizes)))
    k = data.draw(st.integers(1, 6))
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    batches = list(pk(labels, p, k))
    places = Counter(identity for batch in batches for identity in {labels[i] for i in batch})
    allowed = [min(max(int(n / k + 0.5), 1), len(batches)) for n in sizes]
    assert all(places[i] <= allowed[i] for i in range(len(sizes)))
    assert sum(allowed) - sum(places.values()) < p


def test_an_even_set_is_covered_exactly_once():
    labels = [i // 8 for i in range(80)]
    shown = Counter(itertools.chain.from_iterable(pk(labels, 5, 4)))
    assert shown == Counter(range(80))


def test_identities_meet_others_in_each_of_their_batches():
    labels = [i // 16 for i in range(40 * 16)]
    partners = Counter(
        other
        for batch in pk(labels, 8, 4)
        if 0 in (present := {labels[i] for i in batch})
        for other in present - {0}
    )
    assert partners.total() == 4 * 7
    assert len(partners) > 14


def test_order_is_a_function_of_seed_and_epoch():
    labels = [i // 6 for i in range(60)]
    runs = {(s, e): list(pk(labels, 3, 4, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1)}
    assert runs[1, 1] == list(pk(labels, 3, 4, seed=1, epoch=1))
    for first, second in itertools.combinations(runs.values(), 2):
        assert first != second


@settings(deadline=None, max_examples=40)
@given(identity_sizes, st.integers(1, 4), st.data())
def test_processes_share_the_identities_of_every_batch(sizes, world_size, data):
    sizes = sizes * world_size
    p = world_size * data.draw(st.integers(1, len(sizes) // world_size))
    k, epoch = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 3))
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    alone = list(pk(labels, p, k, epoch=epoch))
    samplers = [
        pk(labels, p, k, epoch=epoch, rank=r, world_size=world_size) for r in range(world_size)
    ]
    assert {len(sampler) for sampler in samplers} == {len(alone)}
    for batch, *shares in zip(alone, *samplers, strict=True):
        # gathered in order of rank, the shares are the very batch of one process
        assert list(itertools.chain.from_iterable(shares)) == batch
        assert {len(share) for share in shares} == {p // world_size * k}
        assert {len({labels[i] for i in share}) for share in shares} == {p // world_size}


def test_too_many_identities_or_processes_say_what_to_set():
    labels = [0, 0, 1, 1, 2, 2]
    with pytest.raises(UserError) as caught:
        pk(labels, 16, 4)
    assert str(caught.value) == (
        "batch.identities is 16, but in the training images there are 3 identities; set it to at"
        " most 3"
    )
    with pytest.raises(UserError) as caught:
        pk(labels, 3, 2, world_size=2)
    assert str(caught.value) == (
        "batch.identities is 3, but 2 processes take equal shares of a batch; set it to a multiple"
        " of 2"
    )
    with pytest.raises(UserError) as caught:
        EpochShuffle(2, seed=0, world_size=3)
    assert str(caught.value) == (
        "2 images are too few for 3 processes; lower run.devices, so that there are at most 2"
    )


def shuffled(size, *, epoch, rank=0, world_size=1) -> list[int]:
    sampler = EpochShuffle(size, seed=3, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    drawn = list(sampler)
    assert len(drawn) == len(sampler)
    return drawn


def in_batches(order, size) -> list[list[int]]:
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 50), st.integers(1, 4), st.integers(1, 5), st.integers(0, 5))
def test_shuffled_batches_are_the_same_for_any_number_of_processes(size, world_size, each, epoch):
    alone = shuffled(size, epoch=epoch)
    assert sorted(alone) == list(range(size))
    shares = [shuffled(size, epoch=epoch, rank=r, world_size=world_size) for r in range(world_size)]
    assert {len(share) for share in shares} == {size // world_size}
    batches = in_batches(alone, each * world_size)
    parts = [in_batches(share, each) for share in shares]
    assert {len(part) for part in parts} == {len(batches)}
    for batch, *own in zip(batches, *parts, strict=True):
        assert sorted(itertools.chain.from_iterable(own)) == sorted(batch)


def test_lightning_reaches_both_samplers():
    numbers = list(range(24))
    for loader, sampler in (
        (DataLoader(numbers, sampler=(s := EpochShuffle(24, seed=0)), batch_size=6), s),  # pyright: ignore[reportArgumentType]
        (DataLoader(numbers, batch_sampler=(s := pk([i // 4 for i in numbers], 3, 2))), s),  # pyright: ignore[reportArgumentType]
    ):
        before = [batch.tolist() for batch in loader]
        _set_sampler_epoch(loader, 5)
        assert sampler.epoch == 5
        assert [batch.tolist() for batch in loader] != before

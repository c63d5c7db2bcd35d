"""The bound's state over any course of a training, against a naive account of it (evidence 6).

Epochs of any batches, of none, and without images of some class; checkpoints after any step, gone
back to once or again, the epoch repeated or continued; copies that go on apart. After every step
``ready`` must be what the epochs that are over say, and the loss zero exactly as long as it is
False.

Evidence 6 is a probe that printed ``ready=False`` in epochs 3 and 4 of a search whose logged IBB
was as it should be. That cannot be one object: nothing but ``load_state_dict`` takes ``ready``
back, and ``forward`` of one that is not ready is an exact zero. So the probe held another object
than the one that trained: one of another search, or a copy made in the first epoch, which
stays as it was (``fork`` and ``go on as the copy`` below). The product makes no second one;
``tests/search/test_bound_in_search.py`` counts them.

Legend: C identities, D feature size, X input size.
"""

import copy
import io
import math
from dataclasses import dataclass, field

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor

from dcsnas.losses.bound import InformationBound

CLASSES, DIM, INPUT_DIM = 3, 2, 2
UNIFORM = [1 / CLASSES] * CLASSES
Vector = list[float]
Image = tuple[Vector, Vector, int]
"""Features, inputs, label."""

# the first coordinate is positive, so that no mean is the zero vector that marks an absent class
vectors = st.tuples(st.integers(1, 8), st.integers(-8, 8)).map(lambda pair: [n / 4 for n in pair])
batches = st.lists(st.tuples(vectors, vectors, st.integers(0, CLASSES - 1)), min_size=1, max_size=5)


def mean(rows: list[Vector]) -> Vector:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def assigned(vector: Vector, centroids: dict[int, Vector]) -> Vector:
    """Return phi over the classes; one without a centroid gets nothing."""

    def cosine(other: Vector) -> float:
        dot = sum(a * b for a, b in zip(vector, other, strict=True))
        return dot / math.hypot(*vector) / max(math.hypot(*other), 1e-12)

    weights = [
        math.exp(2 * cosine(centroids[c])) if any(centroids.get(c, ())) else 0.0
        for c in range(CLASSES)
    ]
    return [weight / sum(weights) for weight in weights]


@dataclass
class Account:
    """What Algorithm 1 says after the images of the epochs so far, written down naively."""

    finished: int = 0
    """Epochs that are over and had images."""
    features: dict[int, Vector] = field(default_factory=dict)
    inputs: dict[int, Vector] = field(default_factory=dict)
    q: list[Vector] = field(default_factory=lambda: [UNIFORM] * CLASSES)
    epoch: list[Image] = field(default_factory=list)
    """The images of the epoch that runs."""

    @property
    def ready(self) -> bool:
        return self.finished >= 1

    def end(self) -> None:
        images, self.epoch = self.epoch, []
        if not images:
            return
        of_class = {c: [one for one in images if one[2] == c] for c in range(CLASSES)}
        if self.finished:
            known = [any(self.features.get(c, ())) for c in range(CLASSES)]
            for c, own in of_class.items():
                row = mean([assigned(f, self.features) for f, _, _ in own]) if own else self.q[c]
                row = [p if k else 1 / CLASSES for p, k in zip(row, known, strict=True)]
                self.q[c] = [p / sum(row) for p in row]
        for c, own in of_class.items():
            if own:
                self.features[c] = mean([f for f, _, _ in own])
                self.inputs[c] = mean([x for _, x, _ in own])
        if not self.finished:
            there = [1.0 if c in self.features else 0.0 for c in range(CLASSES)]
            nowhere = [share / sum(there) for share in there]
            for c in range(CLASSES):
                own = self.features.get(c)
                self.q[c] = assigned(own, self.features) if own else nowhere
        self.finished += 1

    def loss(self, images: list[Image]) -> float:
        if not self.ready:
            return 0.0
        total = 0.0
        for features, inputs, label in images:
            phi_f, phi_x = assigned(features, self.features), assigned(inputs, self.inputs)
            total += sum(p * math.log(p) for p in phi_x if p > 0)
            total -= sum(
                p * math.log(q) for p, q in zip(phi_f, self.q[label], strict=True) if p > 0
            )
        return total / len(images)


def tensors(images: list[Image]) -> tuple[Tensor, Tensor, Tensor]:
    features, inputs, labels = zip(*images, strict=True)
    rows = [torch.tensor(part, dtype=torch.float64) for part in (features, inputs)]
    return rows[0], rows[1], torch.tensor(labels)


class Training(RuleBasedStateMachine):
    """A training whose bound may be stored, read back and copied at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = new_bound()
        self.account = Account()
        self.stored: list[tuple[bytes, Account]] = [(checkpoint(self.bound), Account())]
        self.left: list[tuple[InformationBound, Account]] = []
        """Copies that nobody trains."""

    @rule(images=batches)
    def step(self, images: list[Image]) -> None:
        batch = tensors(images)
        loss = self.bound(*batch).item()
        assert math.isclose(loss, self.account.loss(images), abs_tol=1e-9)
        assert self.account.ready or loss == 0.0
        self.bound.observe(*batch)
        self.account.epoch += images

    @rule()
    def end_epoch_and_begin_the_next(self) -> None:
        self.bound.end_epoch()
        self.account.end()
        self.bound.begin_epoch()

    @rule(images=batches)
    def whole_epoch(self, images: list[Image]) -> None:
        self.step(images)
        self.end_epoch_and_begin_the_next()

    @rule()
    def store(self) -> None:
        self.stored.append((checkpoint(self.bound), copy.deepcopy(self.account)))

    @rule(repeated=st.booleans())
    def stop_and_go_on(self, repeated: bool) -> None:
        self.store()
        self.go_on_from(len(self.stored) - 1, repeated)

    @rule(data=st.data(), repeated=st.booleans())
    def go_back(self, data: st.DataObject, repeated: bool) -> None:
        self.go_on_from(data.draw(st.integers(0, len(self.stored) - 1)), repeated)

    def go_on_from(self, index: int, repeated: bool) -> None:
        content, account = self.stored[index]
        self.bound, self.account = new_bound(), copy.deepcopy(account)
        self.bound.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        if repeated:
            self.bound.begin_epoch()
            self.account.epoch = []

    @rule()
    def fork(self) -> None:
        self.left.append((copy.deepcopy(self.bound), copy.deepcopy(self.account)))

    @precondition(lambda self: self.left)
    @rule(data=st.data())
    def go_on_as_the_copy(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.left) - 1))
        self.left[index], (self.bound, self.account) = (self.bound, self.account), self.left[index]

    @invariant()
    def all_are_ready_when_an_epoch_is_over(self) -> None:
        for bound, account in [(self.bound, self.account), *self.left]:
            assert bound.ready.item() == account.ready
            assert bound.has_centroids.item() == (account.finished > 0)
            assert bound.counts.sum() == len(account.epoch)

    @invariant()
    def their_values_are_those_of_the_epochs_before(self) -> None:
        for bound, account in [(self.bound, self.account), *self.left]:
            for buffer, means in (
                (bound.feature_centroids, account.features),
                (bound.input_centroids, account.inputs),
            ):
                expected = [means.get(c, [0.0] * DIM) for c in range(CLASSES)]
                torch.testing.assert_close(buffer, torch.tensor(expected, dtype=torch.float64))
            if account.ready:
                q = torch.tensor(account.q, dtype=torch.float64)
                torch.testing.assert_close(bound.q, q)


def new_bound() -> InformationBound:
    return InformationBound(CLASSES, DIM, input_dim=INPUT_DIM).double()


def checkpoint(bound: InformationBound) -> bytes:
    file = io.BytesIO()
    torch.save(bound.state_dict(), file)
    return file.getvalue()


Training.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestTraining = Training.TestCase

"""Windows of fractional position and length against Equations 3 to 5, written out.

Shapes: B images, N tokens, C channels, M windows.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from dcsnas.nn.attention.selector import as_map
from dcsnas.nn.attention.windows import (
    Windows,
    WindowSelector,
    interpolated_query,
    union,
    window_mask,
)

C, N = 13, 5
DEFAULTS: dict[str, Any] = {
    "windows": 1, "per": "token", "learn": "both", "interpolate": "affinity", "length": 0.5,
    "shortest": 0.25,
}  # fmt: skip


def selector(channels: int = C, **changes: Any) -> WindowSelector:
    """Return a selector in float64 whose windows are not those of a new one."""
    torch.manual_seed(1)
    made = WindowSelector(channels, **{**DEFAULTS, **changes}).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.7)
    return made


def integral(x: Tensor, start: int, length: int, room: int) -> Tensor:
    """Return the values [N, room] of the window [start, start + length), zeros after them."""
    beyond = torch.cat((x, x.new_zeros(len(x), room)), 1)
    return torch.cat((beyond[:, start : start + length], x.new_zeros(len(x), room - length)), 1)


def equations(start: float, length: float, at: Any) -> Any:
    """Return Equations 3, 4 and 5 of 2022 for ``at(start, length)`` at whole numbers."""
    s, l = int(start), int(length)  # noqa: E741
    s_dec, l_dec = start - s, length - l
    first = (1 - l_dec) * at(s, l) + l_dec * at(s, l + 1)
    second = (1 - l_dec) * at(s + 1, l) + l_dec * at(s + 1, l + 1)
    return (1 - s_dec) * first + s_dec * second


def literal_values(x: Tensor, query: int, start: float, length: float) -> Tensor:
    """Return the affinities [N] of a query whose and whose keys' values are interpolated."""
    room = int(length) + 1
    values = equations(start, length, lambda s, l: integral(x, s, l, room))  # noqa: E741
    return values @ values[query]


def literal_affinity(x: Tensor, query: int, start: float, length: float) -> Tensor:
    """Return the affinities [N] of a query, interpolated between those of integral windows."""

    def at(s: int, l: int) -> Tensor:  # noqa: E741
        window = x[:, s : s + l]
        return window @ window[query]

    return equations(start, length, at)


LITERAL = {"values": literal_values, "affinity": literal_affinity}


@pytest.mark.parametrize("interpolate", ["affinity", "values"])
@pytest.mark.parametrize("per", ["token", "module"])
@pytest.mark.parametrize("learn", ["both", "position", "length"])
def test_equals_the_equations_of_the_paper(interpolate: str, per: str, learn: str) -> None:
    made = selector(interpolate=interpolate, per=per, learn=learn)
    x = torch.randn(2, N, C, dtype=torch.float64)
    query, key = made(as_map(x), x)
    windows = made.masking(as_map(x))
    shape = (2, N, 1) if per == "token" else (1,)
    assert windows.start.shape == windows.length.shape == shape
    starts, lengths = (w.expand(2, N, 1)[..., 0].tolist() for w in windows)
    for b in range(2):
        for i in range(N):
            expected = LITERAL[interpolate](x[b], i, starts[b][i], lengths[b][i])
            torch.testing.assert_close(query[b, i] @ key[b].T, expected, rtol=0, atol=1e-13)


def test_the_readings_differ() -> None:
    x = torch.randn(N, C, dtype=torch.float64)
    values, affinity = (literal(x, 0, 2.5, 4.5) for literal in LITERAL.values())
    assert (values - affinity).abs().max() > 0.1


windows_of_c = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(
    lambda shares: (shares[0] * (C - shares[1] * C), shares[1] * C)
)


@given(windows_of_c)
def test_four_corners_of_prefix_sums(window: tuple[float, float]) -> None:
    """The mask weighs channels as four differences of prefix sums do, and sums to the length.

    A place beyond the last channel has the weight of the corner that reaches it.
    """
    start, length = window
    weights = torch.rand(C, dtype=torch.float64)
    prefix = torch.cat((torch.zeros(1, dtype=torch.float64), weights.cumsum(0)))

    def corner(s: int, l: int) -> Tensor:  # noqa: E741
        return prefix[min(s + l, C)] - prefix[min(s, C)]

    mask = window_mask(Windows(*torch.tensor(window, dtype=torch.float64)), C)
    torch.testing.assert_close(mask @ weights, equations(start, length, corner), rtol=0, atol=1e-12)
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1 + 1e-12
    reached = int(start) + 1 + int(length) + 1
    lost = (start % 1) * (length % 1) if reached > C else 0.0
    torch.testing.assert_close(float(mask.sum()), length - lost, rtol=0, atol=1e-12)


@given(st.integers(0, C), st.data())
def test_whole_windows_are_slices(start: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, C - start))
    mask = window_mask(Windows(torch.tensor(float(start)), torch.tensor(float(length))), C)
    expected = [float(start <= c < start + length) for c in range(C)]
    assert mask.tolist() == expected


def test_union_counts_a_channel_once() -> None:
    windows = Windows(torch.tensor([0.0, 2.0, 9.0]), torch.tensor([4.0, 4.0, 2.0]))
    expected = [1.0] * 6 + [0.0] * 3 + [1.0] * 2 + [0.0] * 2
    assert union(windows, C).tolist() == expected


@pytest.mark.parametrize("interpolate", ["affinity", "values"])
@pytest.mark.parametrize("per", ["token", "module"])
@pytest.mark.parametrize("learn", ["both", "position", "length"])
@pytest.mark.parametrize("windows", [1, 3])
def test_gradients(interpolate: str, per: str, learn: str, windows: int) -> None:
    made = selector(7, interpolate=interpolate, per=per, learn=learn, windows=windows)
    parameters = {name: p.detach().requires_grad_() for name, p in made.named_parameters()}
    x = torch.randn(1, 3, 7, dtype=torch.float64, requires_grad=True)

    def affinity(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        query, key = functional_call(made, named, (as_map(x), x))
        return query @ key.mT

    assert torch.autograd.gradcheck(affinity, (x, *parameters.values()))


def test_gradients_of_the_functions() -> None:
    x = torch.randn(3, C, dtype=torch.float64, requires_grad=True)
    start, length = (
        torch.tensor(v).double().requires_grad_() for v in ([1.3, 4.6, 0.2], [5.4] * 3)
    )
    assert torch.autograd.gradcheck(lambda *w: window_mask(Windows(*w), C), (start, length))
    assert torch.autograd.gradcheck(
        lambda x, *w: interpolated_query(x, Windows(*w)), (x, start, length)
    )


@pytest.mark.parametrize("windows", [1, 4])
@pytest.mark.parametrize("learn", ["both", "position", "length"])
@pytest.mark.parametrize("scale", [0.1, 50.0])
def test_windows_never_leave_the_channels(windows: int, learn: str, scale: float) -> None:
    made = selector(windows=windows, learn=learn)
    x = as_map(scale * torch.randn(4, 50, C, dtype=torch.float64))
    start, length = made.masking(x)
    assert start.min() >= 0
    assert (start + length).max() <= C + 1e-12
    assert length.min() >= 0.25 * C - 1e-12
    if learn == "position":
        assert length.unique().tolist() == [0.5 * C]


@pytest.mark.parametrize(
    ("learn", "starts"),
    [("both", [1.625, 4.875]), ("position", [1.625, 4.875]), ("length", [0, 3.25])],
)
def test_new_windows_lie_evenly(learn: str, starts: list[float]) -> None:
    made = WindowSelector(C, **{**DEFAULTS, "windows": 2, "learn": learn})
    windows = made.masking(as_map(torch.randn(1, 3, C)))
    torch.testing.assert_close(windows.start[0, 0], torch.tensor(starts))
    torch.testing.assert_close(windows.length[0, 0], torch.tensor([6.5, 6.5]))


def test_windows_of_one_module_are_not_those_of_each_token() -> None:
    x = as_map(torch.randn(1, 20, C, dtype=torch.float64))
    assert selector(per="token").masking(x).start.unique().numel() == 20
    assert selector(per="module").masking(x).start.shape == (1,)


def test_windows_keep_their_precision_under_autocast() -> None:
    made = selector(320).float()
    x = torch.randn(1, 320, 8, 4)
    plain = made.masking(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.masking(x)
        query, _ = made(x.bfloat16(), x.bfloat16().flatten(2).mT)
    assert found.start.dtype == torch.float32
    assert torch.equal(found.start, plain.start)
    assert query.dtype == torch.bfloat16
    query, key = made.bfloat16()(x.bfloat16(), x.bfloat16().flatten(2).mT)
    assert query.dtype == key.dtype == torch.bfloat16

"""Conditions of a measurement, and which of them differ."""

import pytest
import torch

from dcsnas.config.errors import UserError
from dcsnas.latency.allocator import current_allocator
from dcsnas.latency.conditions import cpu_name, current_conditions, differences
from latency_fakes import CONDITIONS, SETTINGS


def test_the_current_conditions_describe_this_process():
    here = current_conditions((64, 32), 8, threads=2)
    assert (here.device, here.backend, here.batch, here.input) == ("cpu", "eager", 8, (64, 32))
    assert here.torch == torch.__version__
    assert here.device_name == cpu_name()
    assert here.device_name.endswith(f"{torch.backends.cpu.get_cpu_capability()})")
    assert here.allocator == current_allocator()
    assert here.cuda is None
    assert here.driver is None


def test_conditions_survive_a_round_trip():
    assert type(CONDITIONS).model_validate(CONDITIONS.model_dump(mode="json")) == CONDITIONS


def test_every_differing_field_is_listed_with_both_values():
    other = CONDITIONS.model_copy(update={"threads": 4, "input": (256, 128)})
    assert differences(CONDITIONS, other) == [
        ("threads", 1, 4),
        ("input", (16, 8), (256, 128)),
    ]
    assert differences(CONDITIONS, CONDITIONS) == []


def test_settings_are_compared_alike():
    other = SETTINGS.model_copy(update={"rounds": 9})
    assert differences(SETTINGS, other) == [("rounds", 4, 9)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_asking_for_cuda_without_one_says_what_to_do():
    with pytest.raises(UserError, match=r"device cuda: torch .* sees no CUDA device.*use device"):
        current_conditions((64, 32), 1, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_conditions_of_a_gpu_name_it_and_its_software():
    here = current_conditions((64, 32), 1, device="cuda")
    assert here.device_name == torch.cuda.get_device_name()
    assert here.driver
    assert here.cuda is not None
    assert here.cuda.startswith(f"{torch.version.cuda}, cuDNN")

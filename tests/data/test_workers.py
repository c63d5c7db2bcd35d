"""Processes that load: what they need, and how their failures end (faults 3)."""

import gc
import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children, process, queues
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from dcsnas.config.errors import UserError
from dcsnas.data.loading import ImageSet, Loader, make_loader
from dcsnas.data.reid import Sample
from killed_search import PROCESSES, SharedMemory, needs_mounts

# torch advises against more processes than cores, which the commands keep to themselves
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
SIZE = (8, 4)
WITHOUT = "or set it to 0 to load without further processes"


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    found = [Sample(tmp_path / f"{i}.png", identity=i, camera=0) for i in range(16)]
    for sample in found:
        Image.new("RGB", (SIZE[1], SIZE[0]), (10 * sample.identity, 1, 2)).save(sample.path)
    return found


class Failing(ImageSet):
    """Images of which one makes the process that loads it fail."""

    fail: Callable[[], object]

    def pixels(self, index: int, draw: int = 0) -> Tensor:
        if index == 9 and get_worker_info():
            self.fail()
        return super().pixels(index, draw)


def failing(samples: list[Sample], fail: Callable[[], object], workers: int = 2) -> Loader:
    images = Failing(samples, SIZE)
    images.fail = fail
    return make_loader(images, workers=workers, seed=0, batch_size=2)


def raise_key_error() -> None:
    raise KeyError("no such camera")


def raise_user_error() -> None:
    raise UserError("images: mixed sizes;\nscale them")


def close_the_way_out() -> None:
    """Have the thread fail that sends a worker's batches."""
    for queue in [one for one in gc.get_objects() if type(one) is queues.Queue]:
        queue._writer.close()  # type: ignore[attr-defined]


FAILURES: dict[str, tuple[Callable[[], object], str]] = {
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "is killed by signal: Killed"),
    "full": (lambda: os.kill(os.getpid(), signal.SIGBUS), "is killed by signal: Bus error"),
    "ended": (lambda: os._exit(3), "exited unexpectedly with exit code 3"),
    "mute": (close_the_way_out, "exited unexpectedly with exit code 1"),
    "wrong": (raise_key_error, "KeyError: 'no such camera'"),
    "out of memory": (lambda: bytearray(1 << 60), "MemoryError"),
}


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Keep hypothesis's hook on garbage collection out: it swallows what a signal raises in it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("how", FAILURES)
def test_a_process_that_fails_is_one_message(
    samples: list[Sample], how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fail, cause = FAILURES[how]
    began = time.monotonic()
    with pytest.raises(UserError) as error:
        list(failing(samples, fail))
    assert time.monotonic() - began < 10
    first, *more = str(error.value).splitlines()
    assert cause in first
    assert first.endswith(WITHOUT)
    assert not more
    assert "Traceback" not in capfd.readouterr().err
    assert not active_children()


def test_a_mistake_of_the_user_keeps_its_words(samples: list[Sample]) -> None:
    with pytest.raises(UserError) as error:
        list(failing(samples, raise_user_error))
    assert str(error.value) == "images: mixed sizes;\nscale them"


@pytest.mark.usefixtures("no_collection")
def test_a_process_that_dies_while_nobody_waits_for_it(samples: list[Sample]) -> None:
    loader = make_loader(ImageSet(samples, SIZE), workers=2, seed=0, batch_size=2)
    for _ in loader:
        pass
    active_children()[1].kill()
    with pytest.raises(UserError, match="is killed by signal: Killed"):
        time.sleep(10)


@pytest.mark.slow
def test_a_loader_goes_on_with_new_processes_after_a_failure(samples: list[Sample]) -> None:
    loader = failing(samples, FAILURES["killed"][0])
    with pytest.raises(UserError, match="is killed by signal: Killed"):
        list(loader)
    loader.dataset.fail = lambda: None  # type: ignore[attr-defined]
    assert len(list(loader)) == 8
    active_children()[0].kill()
    with pytest.raises(UserError, match="is killed by signal: Killed"):
        time.sleep(10)
    with pytest.raises(UserError, match="exited unexpectedly"):
        list(loader)
    assert len(list(loader)) == 8


@pytest.mark.slow
def test_a_thread_other_than_the_main_one_hears_of_it_in_seconds(samples: list[Sample]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    kill = FAILURES["killed"][0]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool, pytest.raises(UserError, match="failed"):
        pool.submit(list, failing(samples, kill)).result()
    assert time.monotonic() - began < 10


def images_of(loader: Loader, epochs: int = 1) -> list[Any]:
    return [batch.images.tolist() for _ in range(epochs) for batch in loader]


def test_a_long_temporary_folder(
    samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 3 (a): sockets below it have too long a name."""
    folder = tmp_path / ("t" * 105)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setitem(process.current_process()._config, "tempdir", str(folder))  # type: ignore[attr-defined]
    images = ImageSet(samples, SIZE)
    loaders = [make_loader(images, workers=n, seed=0, batch_size=3) for n in (2, 0)]
    assert images_of(loaders[0]) == images_of(loaders[1])


def test_no_process_can_be_started_any_more(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fork = os.fork

    def fork_twice() -> int:
        if len(active_children()) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", fork_twice)
    images = ImageSet(samples, SIZE)
    loader = make_loader(images, workers=8, seed=0, batch_size=3)
    alone = make_loader(images, workers=0, seed=0, batch_size=3)
    assert images_of(loader, 2) == images_of(alone, 2)
    line = "loading with 2 processes instead of 8 (data.workers): [Errno 11] Resource temporarily"
    assert line in capsys.readouterr().err


def alone(target: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a process of its own."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=send_result, args=(sender, target, *arguments))
    child.start()
    try:
        assert receiver.poll(60), "hangs"
        return receiver.recv()
    finally:
        child.kill()
        child.join()


def send_result(sender: Any, target: Callable[..., Any], *arguments: Any) -> None:
    import multiprocessing

    multiprocessing.set_start_method("fork", force=True)
    sender.send(target(*arguments))


def load_with_few_files(samples: list[Sample]) -> tuple[int, list[Any]]:
    few = len(os.listdir("/proc/self/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, few))
    loader = make_loader(ImageSet(samples, SIZE), workers=8, seed=0, batch_size=1)
    return loader.num_workers, images_of(loader, 3)


def test_few_files_may_be_open(samples: list[Sample]) -> None:
    number, images = alone(load_with_few_files, samples)
    assert 0 <= number <= 8
    expected = make_loader(ImageSet(samples, SIZE), workers=0, seed=0, batch_size=1)
    assert images == images_of(expected, 3)


def sums_in(size: str, samples: list[Sample], workers: int, batches: int) -> list[int]:
    """Return the sums of batches of 6 MB, of which several are under way at once."""
    SharedMemory(size).install()
    images = ImageSet(samples * 4 * batches, (256, 128))
    loader = make_loader(images, workers=workers, seed=0, batch_size=64)
    sums = []
    for batch in loader:
        time.sleep(0.05)
        sums.append(int(batch.images.sum(dtype=torch.int64)))
    return sums


@needs_mounts
def test_batches_take_no_shared_memory(samples: list[Sample]) -> None:
    """Faults 3 (b): 12 batches of 6 MB with a /dev/shm of 64 MB."""
    assert alone(sums_in, "64m", samples, 8, 12) == 12 * alone(sums_in, "64m", samples, 0, 1)

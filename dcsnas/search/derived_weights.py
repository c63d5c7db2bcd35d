"""The weights of a derived network before it is trained: slices of the supernet's, recalibrated.

They tell what the search saw in a network (``dcsnas evaluate``), not what training makes of it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from dcsnas.config.errors import UserError
from dcsnas.config.files import read_yaml
from dcsnas.config.search import search_model
from dcsnas.config.strict import load_with_overrides
from dcsnas.data.reid import read_reid, samples_digest, split_train
from dcsnas.evaluation.ranking import RetrievalResult
from dcsnas.nn.inherit import State
from dcsnas.nn.weights import header_of, read_state, save_weights
from dcsnas.search.validation import Validator
from dcsnas.spaces.architecture import ArchitectureFile
from dcsnas.spaces.space import SearchSpace

NECK = "neck."


def save_derived_weights(
    run: Path, found: ArchitectureFile, path: Path, *, data_root: Path | None = None
) -> None:
    """Write ``found``, derived from the finished search ``run``, with the supernet's weights.

    BatchNorm's statistics are measured on images that trained the weights; ``data_root`` is where
    they are now, if not where the search found them.
    Raises UserError where the search has not ended or the images are not the search's.
    """
    validator, layers, neck = _searched(run, found, data_root)
    network = validator.network(layers, neck, found.provenance.choice)
    header = header_of("derive", found, validator.config.data, found.input, validator.num_classes)
    save_weights(path, network.state_dict(), header)


def score_derived(
    run: Path, networks: Sequence[ArchitectureFile], *, data_root: Path | None = None
) -> Iterator[RetrievalResult]:
    """Yield how well each network retrieves with the supernet's weights, as the search scores it.

    Raises UserError as ``save_derived_weights`` does, and where no image could be found.
    """
    validator, layers, neck = _searched(run, networks[0], data_root)
    validator.refuse_without_matches()
    for network in networks:
        yield validator.retrieval(layers, neck, network.provenance.choice)


def _searched(
    run: Path, found: ArchitectureFile, data_root: Path | None
) -> tuple[Validator, State, State]:
    """Return what scored the search's networks, the supernet's weights, and its neck's."""
    config = load_with_overrides(search_model, run / "config.yaml", [])
    supernet = run / "supernet.safetensors"
    if not supernet.exists():
        raise UserError(f"{supernet}: no such file; weights can be derived when the search is over")
    state = read_state(supernet)
    neck = {n.removeprefix(NECK): t for n, t in state.items() if n.startswith(NECK)}
    if not neck:
        raise UserError(f"{supernet}: holds no neck, as those of older versions; search again")
    root = data_root or config.data.root
    data = read_reid(root, config.data.variant)
    if samples_digest(data.train) != read_yaml(run / "config.yaml")["inputs"]["data"]:
        raise UserError(f"{root}: not the training images of the search; give them by --data")
    parts = split_train(data.train, fraction=config.split, seed=config.run.seed)
    space = SearchSpace.load(run / "space.yaml")
    return Validator(config, space, found.input, parts, data.num_identities), state, neck

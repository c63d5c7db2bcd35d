"""From an ablation's file to what is trained: the recipe, the networks, the first weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dcsnas.config.ablation import PUBLISHED, AblateConfig, AblationVariant, ablation_model
from dcsnas.config.errors import UserError
from dcsnas.config.files import file_digest, read_yaml
from dcsnas.config.runs import Input
from dcsnas.config.stages import Size
from dcsnas.config.strict import apply_overrides, path_override, validate
from dcsnas.spaces.architecture import ArchitectureFile, load_architecture
from dcsnas.spaces.sampling import largest_choice, smallest_choice
from dcsnas.spaces.shipped import find_ablation, named_stage
from dcsnas.spaces.space import load_space
from dcsnas.zoo.weights import import_weights

CHOICES = {"largest": largest_choice, "smallest": smallest_choice}


def read_ablation(
    name: str, *, data: Path | None = None, overrides: Sequence[str] = ()
) -> AblateConfig:
    """Return the ablation of a file, by its path or shipped name, after ``--set`` overrides.

    In the file ``recipe`` is a path, a shipped name or a mapping, and ``set`` changes keys of it;
    an override's key is one of the ablation's, such as ``seeds`` or ``recipe.epochs``. ``data`` is
    the recipe's data set. Raises UserError with every mistake in it.
    """
    path = find_ablation(name)
    inner = [one for one in overrides if one.startswith("recipe.")]
    content = apply_overrides(read_yaml(path), [one for one in overrides if one not in inner])
    changes = content.pop("set", None) or {}
    if "recipe" in content:
        content["recipe"] = named_stage(path, "recipe", content["recipe"], "set", changes)
    content = apply_overrides(content, [*path_override("recipe.data.root", data), *inner])
    config = validate(ablation_model, content, path, overrides)
    for variant in config.variants:
        config.recipe_of(variant)
    return config


@dataclass(frozen=True)
class Variant:
    """A row of the table, ready to be trained."""

    name: str
    given: AblationVariant
    architecture: ArchitectureFile
    size: Size

    @property
    def weights(self) -> Input:
        """Return what its first weights are; raises UserError where there is no such file."""
        if self.given.weights is None:
            return Input("")
        if self.given.weights == PUBLISHED:
            return Input(PUBLISHED, "the published weights")
        path = Path(self.given.weights)
        if not path.is_file():
            raise UserError(
                f"variants.{self.name}.weights: {path}: no such file; give one as dcsnas weights "
                f"import takes, or '{PUBLISHED}'"
            )
        return Input(file_digest(path), str(path), key="weights")

    def start(self, folder: Path) -> Path:
        """Return where its first weights are in an ablation's folder, if it has any."""
        return folder / self.name / "first.safetensors"


def variants_of(config: AblateConfig) -> list[Variant]:
    """Return every variant with its network; raises UserError where one cannot be built."""
    return [_variant(config, name, given) for name, given in config.variants.items()]


def _variant(config: AblateConfig, name: str, given: AblationVariant) -> Variant:
    try:
        file = _architecture_in(given)
        if file is None:
            arguments = {given.attention: given.arguments} if given.attention else {}
            space = load_space(given.network, given.attention, arguments)
            size = config.recipe_of(name).input or space.size
            file = space.described(CHOICES[given.which](space), size)
        return Variant(name, given, file, config.recipe_of(name).input or file.input)
    except UserError as error:
        raise UserError(f"variants.{name}: {error}") from None


def _architecture_in(given: AblationVariant) -> ArchitectureFile | None:
    """Return the network of an architecture.yaml, None where ``network`` names a space."""
    path = Path(given.network)
    if path.suffix not in (".yaml", ".yml") or "provenance" not in read_yaml(path):
        return None
    if given.attention:
        raise UserError(f"attention: {path} is one network, with attention of its own; remove it")
    return load_architecture(path)


@contextmanager
def imported(variants: Sequence[Variant], folder: Path) -> Iterator[dict[str, Path]]:
    """Import the first weights that are not below ``folder`` yet, and yield the new files.

    By variant; they lie beside ``folder`` and are removed unless they are moved. Raises UserError
    where one does not fit.
    """
    missing = [one for one in variants if one.given.weights and not one.start(folder).exists()]
    with TemporaryDirectory(dir=folder.absolute().parent, prefix=".weights-") as temporary:
        made = {one.name: Path(temporary) / f"{one.name}.safetensors" for one in missing}
        for one in missing:
            file = None if one.given.weights == PUBLISHED else Path(str(one.given.weights))
            try:
                import_weights(one.architecture, made[one.name], file)
            except UserError as error:
                raise UserError(f"variants.{one.name}.weights: {error}") from None
        yield made

"""Everything that ``dcsnas data check`` can find wrong with a data set."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Level(Enum):
    """What a fault means: the set is refused, its scores mislead, or it is only worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Fault(Enum):
    """A kind of fault: its level, its name, and what is expected or to be done."""

    # fmt: off
    # found while the names are read; read_reid refuses such a set
    BAD_NAME = (Level.ERROR, "name without identity and camera",
        "expected IDENTITY_cCAMERA... of at most 18 digits each, such as 0002_c1s1_000451_03.jpg"
        " (identity -1 for junk); rename or remove the file")
    BAD_LINE = (Level.ERROR, "entry of a list that does not parse", "correct the list")
    LISTED_TWICE = (Level.ERROR, "file listed twice", "keep one of the entries")
    MISSING_FILE = (Level.ERROR, "listed file that does not exist",
        "copy it there, or remove it from the list")
    DANGLING = (Level.ERROR, "link that leads to no file",
        "fetch the file (dvc pull, git annex get), or remove the link")
    EMPTY_PART = (Level.ERROR, "part without images",
        "training, query and gallery need at least one image each, of type .jpg, .jpeg, .png or"
        " .bmp")
    JUNK_OUTSIDE_GALLERY = (Level.ERROR, "junk outside the gallery",
        "identity -1 marks junk, which is allowed in the gallery only; remove the file")
    ONE_IDENTITY = (Level.ERROR, "training images of one identity only",
        "at least two identities are needed")
    LABEL_MISMATCH = (Level.WARNING, "identity of a list that is not the file name's",
        "the list's counts; take list and images from the same archive")
    UNLISTED = (Level.WARNING, "image that no list names",
        "it is not read; take lists and images from the same archive")
    UNREAD_FOLDER = (Level.WARNING, "images in a subfolder",
        "they are not read; move them up one level")
    UNREAD_FORMAT = (Level.WARNING, "image of another format",
        "it is not read; convert it to .jpg or .png")
    UNREAD = (Level.WARNING, "name that is not an image's",
        "it is not read; if it is an image, let its name end in .jpg, .jpeg, .png or .bmp")
    # found when the images are opened
    EMPTY_FILE = (Level.ERROR, "empty file", "copy it again")
    NOT_AN_IMAGE = (Level.ERROR, "file that is no image", "replace or remove it")
    DAMAGED = (Level.ERROR, "truncated or damaged image", "copy it again, or remove it")
    PIXELS = (Level.ERROR, "image whose pixels have no known range",
        "save it as .png with 8 or 16 bits a channel")
    TINY = (Level.WARNING, "image under 8 pixels high or wide",
        "it shows nobody; check how it was cropped")
    TRAIN_TEST_DUPLICATE = (Level.WARNING, "same file in training and test",
        "scores will be too high; remove one of each pair")
    QUERY_GALLERY_DUPLICATE = (Level.WARNING, "same file in query and gallery",
        "a copy is an easy match unless its camera is the query's; remove it from the gallery")
    TWO_IDENTITIES = (Level.WARNING, "same file under two identities",
        "at most one of them is right; remove the other")
    REPEATED = (Level.NOTE, "same file twice in one part", "it counts twice")
    # found in identities and cameras
    NOTHING_TO_SCORE = (Level.ERROR,
        "no query with a gallery image of its identity from another camera",
        "check the cameras; a set of one camera is scored by dcsnas evaluate --no-camera-filter")
    COUNTS = (Level.WARNING, "count that is not the published one",
        "scores will not be comparable with published ones; the copy is incomplete or another"
        " version")
    SHARED_IDENTITY = (Level.WARNING, "identity in both training and query",
        "scores will be too high unless the number means another person there")
    SINGLE_CAMERA = (Level.NOTE, "training identity seen by one camera only",
        "it teaches nothing about changes of camera")
    UNMATCHED_QUERY = (Level.NOTE, "query without a match from another camera",
        "ranking leaves it out")
    # fmt: on

    def __init__(self, level: Level, title: str, advice: str) -> None:
        self.level = level
        self.title = title
        self.advice = advice


@dataclass(frozen=True)
class Finding:
    """One fault at one place: a file, folder or list, and what exactly where that says more."""

    fault: Fault
    path: Path
    detail: str = ""

    @property
    def message(self) -> str:
        """Where, what and what to do, in one sentence."""
        return f"{self.path}: {self.detail or self.fault.title}; {self.fault.advice}"

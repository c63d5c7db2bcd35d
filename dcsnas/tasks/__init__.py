"""What networks are trained for: a file for each task, which registers it."""

from dcsnas.tasks import classify as classify
from dcsnas.tasks import reid as reid

"""What every trial needs, checked before the first one starts."""

from dcsnas.data.reid import read_reid
from dcsnas.experiments.sweep import SweepConfig, planned, search_of
from dcsnas.latency.opening import open_table
from dcsnas.spaces.shipped import find_space
from dcsnas.spaces.space import SearchSpace


def check_inputs(sweep: SweepConfig) -> None:
    """Raise UserError where a data set, space or latency table of any trial is missing or wrong."""
    plan = planned(sweep) if sweep.tuner != "tpe" else []
    searches = [sweep.search, *(search_of(sweep, parameters)[0] for parameters in plan)]
    for space, table, given in {(s.space, s.table, s.input) for s in searches}:
        size = given or SearchSpace.load(find_space(space)).size
        open_table(table, size, allow_foreign=sweep.allow_foreign)
    retrained = [sweep.retrain.data.root] if sweep.retrain else []
    for root in {*(search.data.root for search in searches), *retrained}:
        read_reid(root)

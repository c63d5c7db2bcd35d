"""A trial without a search: it looks its parameters up as real ones do, and reports them.

``light_trial.py FOLDER MODE [NUMBERS]``: mode ``own`` asks as dcsnas does, ``next`` as NNI's
documentation says; the trials of NUMBERS die before they ask. Under mode ``hang`` the trials of
NUMBERS do not end on their first run, after two epochs, and do when they are run again.
"""

import os
import sys
import time
from pathlib import Path

import nni

from dcsnas.experiments.channel import open_channel
from dcsnas.experiments.folder import ExperimentFolder
from dcsnas.experiments.process import end_with_manager

EPOCHS = 3


def main(folder: ExperimentFolder, mode: str, numbers: list[int]) -> None:
    listed = int(os.environ["NNI_TRIAL_SEQ_ID"]) in numbers
    if listed and mode != "hang":
        sys.exit(1)
    if mode == "next":
        parameters = nni.get_next_parameter()
        time.sleep(0.3)
        nni.report_final_result({"default": 0.0, "ran_weight": parameters["weight"]})
        return
    channel = open_channel(folder.url)
    begun = folder.trial(channel.trial) / "begun"
    first_run = not begun.exists()
    begun.parent.mkdir(parents=True, exist_ok=True)
    begun.touch()
    weight = float(channel.parameters["weight"])
    for epoch in range(EPOCHS):
        channel.epoch(epoch, {"default": weight + epoch})
        if listed and epoch == 1 and first_run:
            time.sleep(600)
    channel.result({"default": weight, "ran_weight": weight, "runs": 1 if first_run else 2})


if __name__ == "__main__":
    end_with_manager()
    where, how, *listed = sys.argv[1:]
    main(ExperimentFolder(Path(where)), how, [int(number) for number in listed])

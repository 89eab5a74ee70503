"""The commands on a study that messages name, with the options that they need to find it."""

from __future__ import annotations

import os
import shlex

from raysearch.config.names import DEFAULT_STUDIES, PLACE_VARIABLE, STUDIES_VARIABLE
from raysearch.config.run_location import remote_cluster
from raysearch.data.files import Folder
from raysearch.search.journal.study_folder import StudyFolder


def study_command(command: str, folder: StudyFolder) -> str:
    """Return `raysearch COMMAND STUDY` for the study in `folder`.

    It has the option `--studies` if the command would not find the study without.
    """
    studies = folder.address.rpartition("/")[0]
    default = Folder(os.environ.get(STUDIES_VARIABLE) or DEFAULT_STUDIES).address
    words = ["raysearch", command, folder.name]
    if studies != default or os.environ.get(PLACE_VARIABLE) or remote_cluster(None) is not None:
        words += ["--studies", studies]
    return shlex.join(words)

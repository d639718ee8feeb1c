"""Many samples: run a study in a folder, go on after a kill, join folders, summarise."""

from captum_lkn.studies.merging import merge
from captum_lkn.studies.run import run_study
from captum_lkn.studies.study import Study, load_study
from captum_lkn.studies.summary import CombinationRow, StrongestCombinations, StudySummary, SummaryRow

__all__ = [
    "CombinationRow",
    "StrongestCombinations",
    "Study",
    "StudySummary",
    "SummaryRow",
    "load_study",
    "merge",
    "run_study",
]

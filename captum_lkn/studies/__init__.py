"""Many samples: run a study in a folder, go on after a kill, join folders, summarise."""

from captum_lkn.studies.run import run_study
from captum_lkn.studies.study import Study, load_study

__all__ = ["Study", "load_study", "run_study"]

"""Outputs: from what a model returns to one number a row, by heads, targets and scores."""

from captum_lkn.outputs.heads import SelectOutput, answer_span
from captum_lkn.outputs.score import Score
from captum_lkn.outputs.scores import SCORES, binary_log_odds, log_odds, log_prob, logit, margin, prob
from captum_lkn.outputs.targets import Target, resolve_target

__all__ = [
    "SCORES",
    "Score",
    "SelectOutput",
    "Target",
    "answer_span",
    "binary_log_odds",
    "log_odds",
    "log_prob",
    "logit",
    "margin",
    "prob",
    "resolve_target",
]

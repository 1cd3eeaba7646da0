"""From what a device shows to the verdict about it: facts are gathered, and policy decides."""

from enrollments.actions.judging.judge import Judgement, judge
from enrollments.actions.judging.world import group_ref, individual_ref

__all__ = ["Judgement", "group_ref", "individual_ref", "judge"]

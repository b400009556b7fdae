"""What a text has to satisfy, as energies of texts that are still being written."""

from ai_os_diffusion.inference.constraints.constraint import Constraint
from ai_os_diffusion.inference.constraints.constraint_set import ConstraintSet
from ai_os_diffusion.inference.constraints.follows_schema import FollowsSchema
from ai_os_diffusion.inference.constraints.matches import Matches
from ai_os_diffusion.inference.constraints.phrases import Banned, Required

__all__ = ["Banned", "Constraint", "ConstraintSet", "FollowsSchema", "Matches", "Required"]

"""Solvers of the restoration problem ``max_X -lambda * TV(X - Y) + ELBO(X)`` (paper Eq. 6)."""

from lesioncore.solvers.em import EMSolver
from lesioncore.solvers.objective import Objective, Solution, TotalVariation
from lesioncore.solvers.paper import PaperSolver
from lesioncore.solvers.prox import ProxSolver

Solver = EMSolver | PaperSolver | ProxSolver

SOLVERS: dict[str, type[EMSolver] | type[PaperSolver] | type[ProxSolver]] = {
    "em": EMSolver,
    "paper": PaperSolver,
    "prox": ProxSolver,
}

__all__ = ["SOLVERS", "EMSolver", "Objective", "PaperSolver", "ProxSolver", "Solution", "Solver", "TotalVariation"]

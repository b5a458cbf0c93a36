"""Solvers of the restoration problem ``max_X -lambda * TV(X - Y) + ELBO(X)`` (paper Eq. 6)."""

from lesioncore.solvers.objective import Objective, Solution, TotalVariation
from lesioncore.solvers.paper import PaperSolver
from lesioncore.solvers.prox import ProxSolver

Solver = PaperSolver | ProxSolver

SOLVERS: dict[str, type[PaperSolver] | type[ProxSolver]] = {"paper": PaperSolver, "prox": ProxSolver}

__all__ = ["SOLVERS", "Objective", "PaperSolver", "ProxSolver", "Solution", "Solver", "TotalVariation"]

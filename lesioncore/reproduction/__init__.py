"""The paper's tables and figures, from the released data on: a plan of commands, and what is made of their results."""

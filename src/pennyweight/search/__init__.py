"""Trying plans and settings within a budget, and telling which was best: `pennyweight search`.

space     what a trial may try, and how flags narrow it
study     the trials on disk (Optuna's journal), shared by several processes and by later runs
found     what came of the trials: table, Pareto picture, best recipe
search    the loop
"""

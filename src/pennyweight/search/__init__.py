"""Training one recipe many times: with other settings (`pennyweight search`), or with other seeds (`train --seeds`).

space     what a trial may try, and how flags narrow it
identity  what a search's folder is about
study     the trials on disk (Optuna's journal), shared by several processes and by later runs
trial     one trial, trained
search    the loop over trials
results   what came of the trials: table, Pareto picture, best recipe
seeds     one recipe with several seeds
"""

"""What a run leaves behind to be judged by: its figures, its report, and its comparison with other runs.

rows      test rows recognised again in another run     frozen    the frozen backbone's features
judge     every figure of a run, computed once          page      from these figures to report.html
schema    the form of metrics.json                      runs      several runs side by side
abstain   leaving texts unanswered                      again     measured once more, on other texts
"""

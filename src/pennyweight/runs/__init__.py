"""What a run leaves behind to be judged by: its figures, its report, and its comparison with other runs.

rows      test rows recognised again in another run     frozen    the frozen backbone's features
judge     every figure of a run, computed once          page      from these figures to report.html
abstain   leaving texts unanswered                      runs      several runs side by side
again     measured once more, on other texts
"""

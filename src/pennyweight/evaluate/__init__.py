"""How good a classifier is, said with its doubt: numpy arrays and lists in, plain values and pictures out.

metrics      the figures of one test set          intervals    Wilson and bootstrap intervals
report       text table, PNG files                compare      two classifiers on the same texts
calibration  temperature, reliability, abstention baselines    what an adapter has to beat
mistakes     where the classifier errs            html         the self-contained report.html
"""

"""How good a classifier is, said with its doubt: numpy arrays and lists in, plain values and pictures out.

metrics      the figures of one test set             intervals  Wilson and bootstrap intervals
baselines    what an adapter has to beat             compare    two classifiers on the same texts
calibration  reliability and the temperature         verdict    the classifier against its baselines, in words
abstention   which texts are better not answered     mistakes   where the classifier errs
report       text table and PNG files                html       the self-contained report.html
                                                     figures, svg, page/   what both draw with
"""

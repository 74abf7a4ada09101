"""Evaluation: logits, labels and names in, one `Evaluation` out. It knows no model, and takes plain arrays and lists.

evaluation       every figure of a classifier, computed once     slices           accuracy by length and by columns
labelled_rows    the rows it is measured on                      misclassified    confident errors, doubtful labels
row_predictions  what was predicted for each row                 metrics/         one file a kind of metric
baselines/       what a classifier has to beat                   report/          tables, pictures, report.html
"""

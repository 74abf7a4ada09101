"""Past one training at a time: many classifiers, many processes, many machines."""

"""The server: many classifiers over one frozen backbone, in one process."""

"""Problems in the data, found before they cost accuracy and reported with their line numbers."""

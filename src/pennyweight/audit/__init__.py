"""What is wrong with the data: found before it costs accuracy, named with the lines a user finds in the file."""

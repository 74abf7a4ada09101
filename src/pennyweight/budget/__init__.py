"""Integers and tables about a budget of trainable parameters: nothing here needs weights, torch or a network.

checkpoints    facts of well-known backbones, or a local folder's config.json
architecture   every parameter of an encoder and of its own head, by name and shape
targets        which linear layers a setting means, in PEFT's terms
count          what a setting trains
strategies     ranks for every matrix, given something to spend
plan           budget in, adapter and head out, with the reasons
over           what to say when a setting does not fit
bill           the plan as a bill
cost           operations, bytes and seconds of a plan
"""

"""The budget of trainable parameters: counted and planned without weights, torch or a network.

config_fields    reading the fields of a config.json
backbone_config  the config.json of well-known backbones, or of a local folder
families         the supported encoder families, described from their config.json
architecture     every parameter of an encoder and of its own head, by name and shape
specs            the settings of an adapter and a head, and which conflict
targets          which linear layers a setting means, in PEFT's terms
count            what a setting trains
strategies       a rank for each matrix, given a number of parameters
allocation       a strategy applied to one backbone: candidates, limits, adapter
reasons          why a plan is as it is
plan             a budget in, an adapter and a head out
plan_table       a plan as a table
suggestions      what would fit, when a setting does not
cost             operations and bytes of a plan
estimate         seconds, cache and memory of a training
"""

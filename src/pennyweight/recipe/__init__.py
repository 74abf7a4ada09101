"""The recipe: all settings of a run.

schema     the fields of its four sections, their defaults and limits
conflicts  settings that are valid one by one and impossible together
problems   what is wrong with a value, in words
loading    shipped recipes, YAML files and settings by key, merged and validated
planning   from a recipe to a plan, and back
shipped/   the recipes that come with the package
"""

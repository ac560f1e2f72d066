"""Lava processes and their process models, and nothing else: Lava imports every module in here, by
path, whenever it looks for the model of a process."""

"""Readers: one file for each format of posed images; `vmemkit.scenes.load` chooses among them.

In: a path that may come from anywhere. Out: a `Source`, which holds the cameras in the conventions of
core/camera.py and names the files of images and depth, without opening them. Two of the formats are
written, too.
"""

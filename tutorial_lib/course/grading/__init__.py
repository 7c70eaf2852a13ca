"""Marks that a student's code cannot touch: it runs in a process of its own, behind a wall.

`judge` is the teacher's side, which draws the inputs and compares; `pupil` is the other, which only
runs answers; `wire` is what they say to each other.
"""

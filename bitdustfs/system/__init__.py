"""This machine, and the place of the program in it: what can be wrong, and what starts it.

`doctor` asks every check (`diagnosis` says what a check finds). Checks look and change nothing: at
programs and libraries, at FUSE, at the home, at limits, disks and the clock, at what runs here.

What a mount or a supplier does does not live here, nor what is printed.
"""

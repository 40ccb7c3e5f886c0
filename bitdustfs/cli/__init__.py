"""The command line: one file a verb, each with its arguments, one call, and what is printed.

Not here: anything that a second front end would need again. What a verb does is in mount/ (for a
running mount), family/ (to found, refound or recover a vault) and supplier/.

Data goes: words -> arguments -> a call -> a typed outcome -> sentences and an exit code (main.py).
"""

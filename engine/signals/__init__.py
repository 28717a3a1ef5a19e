"""What is measured of each row of a data set: `group` says how a group of signals is written, `groups` has
them.
"""

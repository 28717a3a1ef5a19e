"""A home folder that is kept as it was written, and what reading it gives.

It lacks weights, tokenizers, keys and logs. Some rows of tables that are rarely filled were added by hand;
people, passwords and addresses are made up. Texts are Python's documentation (PSF licence) and, in one rating
round, MT-Bench's human judgements (CC BY 4.0).
"""

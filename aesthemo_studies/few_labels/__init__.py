"""Few labels of one task, many of the other: how much does each kind of exchange carry?"""

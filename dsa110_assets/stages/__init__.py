"""One function for each product: look inputs up, call the domain, verify, publish, register, measure.

Assets and commands both call these, so that a product made by hand is the same as one made by the platform. What belongs
here: the order of steps and the transaction that ends a stage. What does not: numerical work (the domain packages),
Dagster, printing.
"""

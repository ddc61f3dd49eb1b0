"""Measurements of the quality of products, for checks and gates.

Every verdict is measured from the product itself. A quantity that cannot be measured is reported as not measured; that
is never a pass (pitfall 22).
"""

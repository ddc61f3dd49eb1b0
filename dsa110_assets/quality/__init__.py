"""Measurements of the quality of products, for checks and gates.

Every verdict is measured from the product itself; what cannot be measured says so and is never a pass (pitfall 22). What does not belong here: deciding what a bad product
means for the platform.
"""

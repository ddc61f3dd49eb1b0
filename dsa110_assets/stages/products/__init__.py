"""One module for the stages of each kind of product: look inputs up, call the domain, verify, publish, register, measure."""

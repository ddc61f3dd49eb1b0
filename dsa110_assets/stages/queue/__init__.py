"""What there is to do: taking observations in, planning what follows, holding an attempt."""

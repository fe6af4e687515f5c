"""How fast it is: laboratories, measurements, and the page made of them. Run by ``benchmarks/run``."""

"""The venues' public protocols as the exchange simulator speaks them, one venue per file. market.py has the trades."""

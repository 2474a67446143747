"""The venues' public protocols as the exchange simulator speaks them, one venue a file; what they serve is
market.py's.
"""

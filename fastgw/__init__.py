"""fastgw: an API gateway, the one door between clients and many backend services."""

__version__ = "0.1.0"

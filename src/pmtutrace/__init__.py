"""pmtutrace: see oversize packets die in tunnels, and whether their senders were told.

Importing this package needs neither root nor BCC, and is cheap: names are loaded on first use.
"""

__version__ = "0.1.0"

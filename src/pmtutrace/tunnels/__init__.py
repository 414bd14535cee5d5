"""Tunnel devices: what there are, what each type adds to a packet, whose an outer packet is."""

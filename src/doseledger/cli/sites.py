"""Commands about several hospitals: what a site hands over, and what a coordinating centre makes of it."""

"""doseledger: from post-treatment SPECT/CT to one auditable ledger of organ and lesion absorbed doses.

Research software. Not a medical device.
"""

from importlib.metadata import version

__version__ = version("doseledger")

"""Results of other programs: their tables as rows of the ledger, and the ledger as their input."""

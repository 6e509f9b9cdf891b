"""Files in and out: DICOM, NIfTI, sheets and the ledger's tables."""
